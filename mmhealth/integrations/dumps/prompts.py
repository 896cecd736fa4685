"""Names of groups where a dump has none: by the prompt itself."""

import hashlib
import json
from typing import Any


def prompt_id(prompt: Any) -> str:
    """A short name that is the same for the same prompt; the prompt itself is not stored."""
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
