"""Whether Python's cryptography finds a path from a leaf to the roots, and none before or after its time."""

import datetime
import sys

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

ROOTS, CHAIN, LEAF, IDENTITY = sys.argv[1:]


def certificates(path):
    with open(path, "rb") as file:
        return x509.load_pem_x509_certificates(file.read())


def verify(moment, intermediates):
    policy = PolicyBuilder().store(Store(roots)).time(moment)
    return policy.build_client_verifier().verify(leaf, intermediates)


roots, chain, leaf = certificates(ROOTS), certificates(CHAIN), certificates(LEAF)[0]
now, day = datetime.datetime.now(datetime.timezone.utc), datetime.timedelta(days=1)
verified = verify(now, chain)
assert [name.value for name in verified.subjects] == [IDENTITY], verified.subjects
assert verified.chain[0] == leaf and verified.chain[-1] in roots, verified.chain
for what, moment, intermediates in (("too late", now + 4 * day, chain), ("too early", now - day, chain), ("alone", now, [])):
    try:
        verify(moment, intermediates)
    except VerificationError:
        continue
    raise AssertionError(f"it verifies {what}")
