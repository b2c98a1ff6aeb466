"""Checks messages with the unmodified `sns-message-validator` and `standardwebhooks` packages.

Reads {"certificate", "secret", "requests": [{"headers", "body"}]} from the file named. Prints what it
accepted; anything that is refused, and a changed message that is accepted, is a failure.
"""

import json
import sys

import standardwebhooks
from sns_message_validator import SNSMessageValidator

told = json.load(open(sys.argv[1]))
hook = standardwebhooks.Webhook(told["secret"])
counts = {"sns-message-validator": 0, "standardwebhooks": 0}


def refused(check):
    try:
        check()
    except Exception:
        return True
    return False


for request in told["requests"]:
    message, headers = json.loads(request["body"]), request["headers"]
    if message["SignatureVersion"] == "1":  # The package knows no other. It fetches the certificate.
        validator = SNSMessageValidator(cert_url_regex="^http://127[.]0[.]0[.]1:")
        validator.validate_message(message=message)
        changed = {**message, "Message": "another"}
        assert refused(lambda: validator.validate_message(message=changed))
        counts["sns-message-validator"] += 1
    hook.verify(request["body"], headers)
    assert refused(lambda: hook.verify(request["body"] + " ", headers))
    counts["standardwebhooks"] += 1
assert all(counts.values()), counts
print(counts)
