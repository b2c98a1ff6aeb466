SELECT certificate_pem FROM signing_key WHERE left(certificate_sha256, 32) = $1
