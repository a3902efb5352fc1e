"""Short campaigns that aim at one safeguard each; run with the safeguard they pass, without it they must fail.

``python -m tests.faults.ablated`` runs each of them both ways and prints what gave the missing safeguard away.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from tests.faults.ablations import ABLATIONS
from tests.faults.campaign import Plan, conduct, stop_in_good_order
from tests.faults.cluster import Pace

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECONDS = timedelta(seconds=20)
_PATIENCE = timedelta(seconds=25)
_PACE = Pace(lease=2.0, long_stage=5.0)


def aim(faults: Sequence[str], load: Sequence[str], seed: int, most_live: int = 8) -> Plan:
    """Return a short campaign of a few faults and workflows."""
    short = Plan(seed, _SECONDS, _PACE, faults=faults, load=load, patience=_PATIENCE, is_steered=False)
    return replace(short, most_live=most_live, calm=1.0)


def plans(seed: int) -> dict[str, Plan]:
    """Return the campaign that aims at each safeguard."""
    return {
        # Few runs: what a frozen worker loses is taken by another at once, and still runs when the frozen one reports.
        "fence": aim(["stall a pool child"], ["long"], seed, most_live=3),
        "heartbeat": replace(
            aim(["forge messages"], ["long"], seed, most_live=4),
            pace=Pace(lease=4.0, long_stage=10.0),
            must_not_lose=True,
        ),
        "reap": aim(["kill a worker"], ["chain", "long"], seed),
        "redispatch": aim(["flush Redis"], ["chain", "fan"], seed),
        "status": aim(["double messages"], ["chain", "fan", "long"], seed),
        "locked columns": aim(["double messages"], ["failing-sibling"], seed, most_live=2),
        "messages": aim(["push garbage"], ["chain"], seed),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaigns; exit with 1 when one that should pass fails, or one that should fail passes."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.ablated", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=list(ABLATIONS), default=None)
    options = parser.parse_args(arguments)
    stop_in_good_order()
    surprises = 0
    for name, plan in plans(options.seed).items():
        if options.only in (None, name):
            with_it, without_it = conduct(plan).problems, conduct(replace(plan, ablation=name)).problems
            surprises += bool(with_it) + (not without_it)
            print(f"{name}: with it {len(with_it)} problems, without it {len(without_it)}", flush=True)
            for problem in dict.fromkeys(problem.partition(": ")[0] for problem in [*with_it, *without_it]):
                print(f"    {problem}", flush=True)
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())
