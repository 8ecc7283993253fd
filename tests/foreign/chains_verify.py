"""Whether Python's cryptography finds a path from each leaf to its roots. Arguments: roots, chain, leaf, identity, and so on."""

import sys

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store


def certificates(path):
    with open(path, "rb") as file:
        return x509.load_pem_x509_certificates(file.read())


arguments = sys.argv[1:]
assert arguments and len(arguments) % 4 == 0, len(arguments)
for roots, chain, leaf, identity in zip(*[iter(arguments)] * 4):
    anchors = certificates(roots)
    verifier = PolicyBuilder().store(Store(anchors)).build_client_verifier()
    try:
        verified = verifier.verify(certificates(leaf)[0], certificates(chain))
    except Exception as error:
        raise AssertionError(f"{leaf} by {roots}: {error}") from error
    assert [name.value for name in verified.subjects] == [identity], verified.subjects
    assert verified.chain[-1] in anchors, roots
