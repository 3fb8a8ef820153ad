"""What counts as a secret: a name that says so, or, of what has no name, a shape that tokens have.

Both are guesses, and err on the side of a mask: a name that is harmless can be marked as such (`unmasked=`).
"""

from __future__ import annotations

import functools
import re
from urllib.parse import unquote

from django.views.debug import SafeExceptionReporterFilter

_SHORTEST = 16
"""Characters; what is shorter is taken for an id or a word."""
_SHORTEST_WITHOUT_A_LONG_WORD = 20
_FEWEST_CHANGES = 4
_MAX_NAME = 200

# What Django's own list lacks, in the versions that are supported: anywhere in a name.
_ANYWHERE = re.compile(
    "API|AUTH|TOKEN|KEY|SECRET|PASS|SIGNATURE|SIGNED|COOKIE|CSRF|XSRF|SESSION|SESSID|CREDENTIAL|JWT|HMAC|SAML|BEARER"
    "|ASSERTION|VERIFIER|2FA",
    re.I,
)
# As one of the words of a name, as in `user[pw]`, `newPwd2` and `openid.sig`.
_WORDS = frozenset({"sig", "pw", "pwd", "passwd", "otp", "totp", "mfa", "cvv", "cvc"})
# Only by themselves: `country_code`, `ticket_id` and `pin_count` are harmless.
_WHOLE = re.compile(
    r"code|ticket|pin|sid|hash|sign|tan|nonce|digest|invite|invitation|pgtid|pgtiou|wresult"
    r"|(?:verif\w*|confirm\w*|activat\w*|invit\w*|recover\w*|reset|backup|log_?in|sign_?in|access|one_?time|device|user"
    r"|sms)[_-]?code",
    re.I,
)
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")

# JSON Web Tokens, and signatures of django.core.signing with the time before them: these are secret under any name.
# Neither looks further than to the next character that cannot be part of it: a value may have megabytes.
_TOKEN = re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*")
_SIGNATURE = re.compile(r"(?::[A-Za-z0-9]{5,7})?:[\w-]{27}(?:[\w-]{16})?(?![\w:-])")
_SIGNED_VALUE_ENDS = re.compile(r"[\s/?#&;\"',]")
_UUID = re.compile(r"(?<![0-9a-f])[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}(?![0-9a-f])", re.I)
_LONG_WORD = re.compile(r"[A-Za-z0-9]{16,}")
# From a lower to an upper letter, and between letters and digits: prose and slugs have few of these, tokens many.
_CHANGE = re.compile(r"(?<=[a-z])[A-Z]|(?<=[A-Za-z])[0-9]|(?<=[0-9])[A-Za-z]")
_DIGIT = re.compile(r"[0-9]")
_ALPHANUMERIC = re.compile(r"[A-Za-z0-9]")


@functools.lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Say whether values of this name are masked."""
    # Names of arguments and of query parameters are few, and a search takes as long as all the rest of a default field.
    if len(name) > _MAX_NAME:
        # Nobody's parameter, and no reason to search for long.
        return True
    return bool(
        _ANYWHERE.search(name)
        or _WHOLE.fullmatch(name)
        or any(word.lower() in _WORDS for word in _WORD.findall(name))
        or SafeExceptionReporterFilter.hidden_settings.search(name)
    )


def looks_secret(text: str) -> bool:
    """Say of a text that has no name, such as a segment of a path, whether it has the shape of a token.

    Signed values, JSON Web Tokens and long random texts do. Words, slugs, numbers, dates, and UUIDs written with their
    hyphens do not: those are ids. A UUID without hyphens cannot be told from 128 bits of a token, and does.
    """
    if len(text) < _SHORTEST:
        return False
    text = _UUID.sub("", unquote(text))
    if _TOKEN.search(text) or _SIGNATURE.search(text):
        return True
    if any(_DIGIT.search(word) and _count_changes(word) >= _FEWEST_CHANGES for word in _LONG_WORD.findall(text)):
        return True
    if len(text) < _SHORTEST_WITHOUT_A_LONG_WORD:
        return False
    changes = _count_changes(text)
    # Nearly all tokens have digits in them; where there is none, names in CamelCase have many changes, too.
    rate = 6 if _DIGIT.search(text) else 4
    return changes >= _FEWEST_CHANGES and changes * rate > len(_ALPHANUMERIC.findall(text))


def without_tokens(text: str, mask: str) -> str:
    """Return a text with JSON Web Tokens and signed values replaced, wherever they stand in it."""
    if "eyJ" in text:
        text = _TOKEN.sub(mask, text)
    if ":" not in text:
        return text
    parts, end = [], 0
    for signature in _SIGNATURE.finditer(text):
        front = text[end : signature.start()]
        # What was signed goes with its signature.
        kept = max((found.end() for found in _SIGNED_VALUE_ENDS.finditer(front)), default=0)
        parts += [front[:kept], mask]
        end = signature.end()
    return "".join([*parts, text[end:]])


def is_id(text: str) -> bool:
    """Say whether a text is a number or a UUID with its hyphens, which name a thing and open nothing."""
    return (text.isascii() and text.isdigit()) or _UUID.fullmatch(text) is not None


def _count_changes(text: str) -> int:
    return len(_CHANGE.findall(text))
