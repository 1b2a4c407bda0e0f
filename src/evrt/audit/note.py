"""Signed notes, as C2SP signed-note has them: a text, an empty line, signatures. Ed25519 alone.

Pure but for making a key.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from evrt.errors import InvalidInput

ED25519 = b"\x01"
KEY_BYTES = 32
KEY_ID_BYTES = 4
NOTE_BYTES_MAX = 1_000_000
SIGNATURE_START = "— "
PRIVATE_KEY_START = "PRIVATE+KEY+"


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """Who may have signed: a name and a public key of 32 bytes. Its text is what a note calls a vkey."""

    name: str
    public: bytes

    @property
    def id(self) -> bytes:
        """The first four bytes of SHA-256(name ‖ newline ‖ 0x01 ‖ public key)."""
        return sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:KEY_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{to_base64(ED25519 + self.public)}"

    def verifies(self, text: str, signature: bytes) -> bool:
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, text.encode())
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SignerKey:
    """A name and the 32 bytes of a private key. Its text is secret."""

    name: str
    seed: bytes

    @property
    def verifier(self) -> VerifierKey:
        private = Ed25519PrivateKey.from_private_bytes(self.seed)
        return VerifierKey(self.name, private.public_key().public_bytes_raw())

    def __repr__(self) -> str:
        return f"SignerKey({self.name!r}, …)"

    def encoded(self) -> str:
        """``PRIVATE+KEY+name+id+base64``, the form that Go's note package has."""
        return f"{PRIVATE_KEY_START}{self.name}+{self.verifier.id.hex()}+{to_base64(ED25519 + self.seed)}"

    def sign(self, text: str) -> str:
        """The signed note of a text that ends with a newline."""
        signature = Ed25519PrivateKey.from_private_bytes(self.seed).sign(text.encode())
        return f"{text}\n{SIGNATURE_START}{self.name} {to_base64(self.verifier.id + signature)}\n"


@dataclass(frozen=True, slots=True)
class Signature:
    """A line under a note: whose it says it is, and the signature proper."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A text with the signatures under it, none of them verified yet."""

    text: str
    signatures: Sequence[Signature]

    def signed_by(self, key: VerifierKey) -> bool:
        """Whether the key has signed it. A bad signature in the key's name spoils a good one beside it."""
        of_key = [s for s in self.signatures if (s.name, s.key_id) == (key.name, key.id)]
        return bool(of_key) and all(key.verifies(self.text, s.signature) for s in of_key)


def check_key_name(name: str) -> str:
    """The name, if a key may be called so. Raises InvalidInput."""
    if not name or "+" in name or any(c.isspace() or not c.isprintable() for c in name):
        raise InvalidInput(
            f"{name!r} cannot be the name of a key: it has to be a text without spaces, '+' and control "
            "characters, such as audit.example.com/evrt."
        )
    return name


def make_key(name: str) -> SignerKey:
    """A new key. Raises InvalidInput for a name that a key cannot have."""
    return SignerKey(check_key_name(name), Ed25519PrivateKey.generate().private_bytes_raw())


def parse_verifier(text: str) -> VerifierKey:
    """A vkey: ``name+id+base64``. Raises InvalidInput."""
    name, key_id, key = _split_key(text.strip(), "a verifier key (name+id+base64)")
    verifier = VerifierKey(name, key)
    if verifier.id.hex() != key_id:
        raise InvalidInput(f"The verifier key of {name} is damaged: its id does not belong to its key.")
    return verifier


def parse_signer(text: str) -> SignerKey:
    """What ``SignerKey.encoded`` gives. Raises InvalidInput, whose text gives nothing of the key away."""
    text = text.strip()
    what = "a private key of a note (PRIVATE+KEY+name+id+base64)"
    if not text.startswith(PRIVATE_KEY_START):
        raise InvalidInput(f"This is not {what}.")
    name, key_id, seed = _split_key(text.removeprefix(PRIVATE_KEY_START), what)
    signer = SignerKey(name, seed)
    if signer.verifier.id.hex() != key_id:
        raise InvalidInput(f"The private key of {name} is damaged: its id does not belong to its key.")
    return signer


def _split_key(text: str, what: str) -> tuple[str, str, bytes]:
    parts = text.split("+", 2)
    encoded = from_base64(parts[2]) if len(parts) == 3 else None
    if encoded is None or len(encoded) != 1 + KEY_BYTES:
        raise InvalidInput(f"This is not {what}.")
    if encoded[:1] != ED25519:
        raise InvalidInput("The key is of a kind that evrt does not know; it knows Ed25519.")
    return check_key_name(parts[0]), parts[1], encoded[1:]


def parse_note(content: bytes) -> Note:
    """A note, its signatures read and not yet verified. Raises InvalidInput."""
    try:
        whole = content.decode() if len(content) <= NOTE_BYTES_MAX else ""
    except UnicodeDecodeError:
        whole = ""
    text, gap, below = whole.rpartition("\n\n")
    if not gap or not below.endswith("\n") or any(c < " " and c != "\n" for c in whole):
        raise InvalidInput("It is not a signed note: text, an empty line, and lines with signatures.")
    return Note(text + "\n", [_signature(line) for line in below[:-1].split("\n")])


def _signature(line: str) -> Signature:
    name, _, encoded = line.removeprefix(SIGNATURE_START).partition(" ")
    signature = from_base64(encoded)
    if not line.startswith(SIGNATURE_START) or signature is None or len(signature) <= KEY_ID_BYTES:
        raise InvalidInput(f"A line under the note is not a signature: {line!r}.")
    return Signature(check_key_name(name), signature[:KEY_ID_BYTES], signature[KEY_ID_BYTES:])


def to_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def from_base64(text: str) -> bytes | None:
    """The bytes, or None where the text is not their one canonical encoding."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return content if to_base64(content) == text else None
