DELETE FROM signing_key WHERE retired_at < $1
