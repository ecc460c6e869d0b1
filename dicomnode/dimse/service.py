"""What a service class is to the receiver: what is taken, and who answers it (PS3.4, PS3.7 D.3).

To add one, write a module with a function that returns a `Service`, and give it to `Receiver` in `node.py`:

- `classes`: its SOP classes. `syntaxes`: which of the proposed transfer syntaxes are taken, the best first.
- `handlers`: pynetdicom's event → a function of the event and of who calls. It returns what pynetdicom wants
  of a handler of that event, and lets nothing escape: `edge.attempt` turns what is raised into a status.
  Several services may handle one event (N-ACTION, N-EVENT-REPORT): the presentation context decides.
  C-GET and C-MOVE are the exception: their handlers send all responses themselves, by `retrieval`.
- `roles`: those that a requestor may take where it asks (PS3.7 D.3.3.4); without, it is SCU, unanswered.
- `intake`: where the data sets of its C-STORE requests go, as they come in; without one they are refused.
- `extended`: from proposed application information to what is agreed on (PS3.7 D.3.3.5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pynetdicom.events import Event, InterventionEvent

from dicomnode.dimse.presentation import native
from dicomnode.model.instance import Announced, AssociationFacts

Handler = Callable[[Event, AssociationFacts], Any]


@dataclass(frozen=True, slots=True)
class Roles:
    """The roles that a requestor may take for a SOP class."""

    scu: bool
    scp: bool


@dataclass(frozen=True, slots=True)
class Intake:
    """Takes instances in as they come. Each may raise a DicomnodeError, which is answered with its status.

    `begin`: one is announced. `write`: the next bytes of its data set. `keep`: it is complete; when this
    returns, it is durable. What `begin` returned has a `discard`, which is called where it is not kept.
    """

    begin: Callable[[Announced], Any]
    write: Callable[[Any, memoryview], None]
    keep: Callable[[Any], object]


@dataclass(frozen=True, slots=True)
class Service:
    """One service class as a receiver offers it."""

    classes: frozenset[str]
    handlers: Mapping[InterventionEvent, Handler]
    syntaxes: Callable[[Sequence[str]], list[str]] = native
    roles: Roles | None = None
    extended: Callable[[bytes], bytes] | None = None
    intake: Intake | None = None
