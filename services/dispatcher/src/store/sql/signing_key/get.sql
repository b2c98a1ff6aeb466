SELECT private_key_pem, certificate_pem FROM signing_key WHERE id = 1
