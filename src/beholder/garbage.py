"""Python's collector now and then walks over all objects there are, PyTorch's among them: 0.1 s and more in which nobody gets a
token. While engines run, those that were there before are left out of that.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from threading import Lock


@dataclass
class Collector:
    """The process's collector. engines: how many run. frozen: it leaves objects out because of them."""

    engines: int = 0
    frozen: bool = False
    lock: Lock = field(default_factory=Lock)

    def leave_out(self) -> None:
        """An engine begins. Does nothing where somebody else has frozen objects."""
        with self.lock:
            self.engines += 1
            if self.engines == 1 and not gc.get_freeze_count():
                gc.collect()
                gc.freeze()
                self.frozen = True

    def take_in(self) -> None:
        """An engine has ended; after the last the collector walks over everything again."""
        with self.lock:
            self.engines -= 1
            if self.engines == 0 and self.frozen:
                gc.unfreeze()
                self.frozen = False


COLLECTOR = Collector()
