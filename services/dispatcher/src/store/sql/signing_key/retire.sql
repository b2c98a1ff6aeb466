-- Its certificate stays, its private key goes: nothing is signed with it any more.
UPDATE signing_key
   SET retired_at = $1, private_key_pem = NULL, sealed = NULL, sealed_with = NULL
 WHERE retired_at IS NULL
