"""What verify finds: something that is not as it was written, or not as it should be."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["missing", "altered", "stale", "invalid", "nobody's"]


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        kind: missing; altered since it was written; stale: of other inputs than there are now; invalid: it says what is
            not so; nobody's: not listed by anything.
        path: which file or object, from the region's folder, or that of the store or checkpoint asked for.
        of: what it belongs to: "scene 33UVP/2023-05-02/L30", "image 33UVP/2023-05-01", "ledger", "report"; "" for nothing.
        why: more, where there is more to say.
    """

    kind: Kind
    path: str
    of: str = ""
    why: str = ""

    def __str__(self) -> str:
        told = ", ".join(part for part in (self.of, self.why) if part)
        return f"{self.kind}: {self.path}" + (f" ({told})" if told else "")
