"""Splitting one day's cost by rules, exactly. Plain functions over plain values; amounts are Decimal at 18 places."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal, localcontext

from finops_assets.focus.money import SCALE

_WIDE = Context(prec=120)
UNTAGGED_TEAM, POOL = "__untagged__", "__pool__"
POOLED_FROM = 5_000
"""Rows that a day's cost of one rule and currency may become with an origin each; above that it goes through a pool."""

Owner = tuple[str, str]
"""Department and team."""


@dataclass(frozen=True)
class Piece:
    """Cost that `bearer` bears. Its origin is whose cost it was as billed; `via` are the rules that moved it before."""

    bearer: Owner
    currency: str
    origin: Owner
    billed: Decimal
    effective: Decimal
    rule: str | None = None
    method: str = "direct"
    ratio: Decimal = Decimal(1)
    via: tuple[str, ...] = ()
    commitment: str | None = None
    note: str | None = None


Weights = Callable[[Piece], "Mapping[Owner, Decimal] | str"]
"""Who gets how much of a piece, relative to the others; or why it cannot be split."""


@dataclass(frozen=True)
class Step:
    """One rule on one day.

    `takes_received` says of an owner whether what earlier rules gave to it is split on; `weights` may leave some to the
    bearer itself.
    """

    name: str
    method: str
    pool: Sequence[Piece]
    takes_received: Callable[[Owner], bool]
    weights: Weights


def parts(amount: Decimal, weights: Sequence[int]) -> list[Decimal]:
    """An amount of up to 18 places in proportion to weights that are not negative, summing to it exactly.

    By largest remainder: what the rounding down leaves goes, a unit of the last place each, to those who lost most by
    it; the earlier of two that lost the same. A negative amount mirrors its positive.

    >>> parts(Decimal("0.000000000000000005"), [1, 1, 1])
    [Decimal('2E-18'), Decimal('2E-18'), Decimal('1E-18')]
    """
    total = sum(weights)
    units = int(_WIDE.scaleb(amount, SCALE))
    size, sign = abs(units), -1 if units < 0 else 1
    whole = [divmod(size * weight, total) for weight in weights]
    left = size - sum(quotient for quotient, _ in whole)
    shares = [quotient for quotient, _ in whole]
    for place in sorted(range(len(whole)), key=lambda i: (-whole[i][1], i))[:left]:
        shares[place] += 1
    return [_WIDE.scaleb(Decimal(sign * share), -SCALE) for share in shares]


def allocate(direct: Iterable[Piece], steps: Iterable[Step]) -> list[Piece]:
    """A day's cost after all rules, in their order. Whatever goes in comes out; what cannot be split stays and says why."""
    done = list(direct)
    received: list[Piece] = []
    for step in steps:
        taken = [*step.pool, *(p for p in received if step.takes_received(p.bearer))]
        received = [p for p in received if not step.takes_received(p.bearer)]
        known: dict[int, _Shares] = {}
        together: dict[tuple[int, str, str | None], tuple[_Shares, list[Piece]]] = {}
        for piece in taken:
            found = step.weights(piece)
            if isinstance(found, str) or not (shares := _shares(found, known)).owners:
                why = found if isinstance(found, str) else "nobody to split it among on this day"
                received.append(_moved(piece, step, "kept", note=why))
            else:
                key = (id(shares), piece.currency, piece.commitment)
                together.setdefault(key, (shares, []))[1].append(piece)
        for shares, pieces in together.values():
            if len(pieces) * len(shares.owners) <= POOLED_FROM:
                received += [part for piece in pieces for part in _divided(piece, step, shares)]
            else:
                done_now, given = _pooled(pieces, step, shares)
                done += done_now
                received += given
    return done + received


@dataclass(frozen=True)
class _Shares:
    """Who gets something, by name, with what weight and ratio; `given` is kept so that its id stays its own."""

    given: Mapping[Owner, Decimal]
    owners: list[Owner]
    weights: list[int]
    ratios: list[Decimal]

    @classmethod
    def of(cls, given: Mapping[Owner, Decimal]) -> _Shares:
        owners = sorted(owner for owner, weight in given.items() if weight > 0)
        # In units of the finest weight they are integers, and what is computed of them is exact.
        places = max((-int(given[o].as_tuple().exponent) for o in owners), default=0)
        weights = [int(_WIDE.scaleb(given[o], max(0, places))) for o in owners]
        return cls(given, owners, weights, parts(Decimal(1), weights) if owners else [])


def _shares(given: Mapping[Owner, Decimal], known: dict[int, _Shares]) -> _Shares:
    return known.get(id(given)) or known.setdefault(id(given), _Shares.of(given))


def _moved(piece: Piece, step: Step, method: str, *, note: str | None = None) -> Piece:
    return replace(piece, rule=step.name, method=method, ratio=Decimal(1), via=_way(piece), note=note)


def _way(piece: Piece) -> tuple[str, ...]:
    return piece.via if piece.rule is None else (*piece.via, piece.rule)


def _divided(piece: Piece, step: Step, shares: _Shares) -> list[Piece]:
    billed, effective, way = parts(piece.billed, shares.weights), parts(piece.effective, shares.weights), _way(piece)
    return [
        Piece(owner, piece.currency, piece.origin, b, e, step.name, step.method, ratio, way, piece.commitment)
        for owner, ratio, b, e in zip(shares.owners, shares.ratios, billed, effective)
        if b or e
    ]


def _pooled(pieces: list[Piece], step: Step, shares: _Shares) -> tuple[list[Piece], list[Piece]]:
    """Cost of many owners to many: into a pool and out of it, because a row for each pair would be their product.

    The pool gives what it got, so by origin and by bearer it comes to nothing.
    """
    pool = (POOL, step.name)
    into = [replace(_moved(piece, step, "pooled"), bearer=pool) for piece in pieces]
    with localcontext(_WIDE):
        billed, effective = (sum((getattr(p, n) for p in pieces), Decimal(0)) for n in ("billed", "effective"))
        counter = Piece(pool, pieces[0].currency, pool, -billed, -effective, step.name, "pooled")
    whole = replace(counter, billed=billed, effective=effective, rule=None, commitment=pieces[0].commitment)
    return [*into, counter], _divided(whole, step, shares)
