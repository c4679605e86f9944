"""The tables of forgetting_digits.py, and what any right implementation shows in them."""

from __future__ import annotations

from statistics import mean, stdev

Scores = list[float]
TITLES = {
    "domain": "Domain-incremental: 0-4, then 5-9, the label is the digit modulo 5",
    "class": "Class-incremental: 0-4, then 5-9, one head of ten",
    "task": "Task-incremental: 0-4, then 5-9, a head each",
    "permuted": "Ten digits under five orders of the pixels, one head",
    "usps": "Domain-incremental: 2,000 digits of MNIST, then 2,000 of USPS, one head",
}


def say(text: str) -> None:
    print(text, flush=True)


def report(scenario: str, names: list[str], found: dict[str, tuple[str, list[Scores], float]]) -> None:
    say(f"\n### {TITLES[scenario]}\n")
    say(f"| method | {' | '.join(names)} | mean | BWT | chosen; tried × seeds |")
    say("|---" * (len(names) + 4) + "|")
    for method, (choice, scores, transfer) in found.items():
        columns = [spread([each[task] for each in scores]) for task in range(len(names))]
        moved = "" if transfer != transfer else f"{100 * transfer:+.1f}"
        say(f"| {method} | {' | '.join(columns)} | {spread([*map(mean, scores)])} | {moved} | {choice} |")
    say("")
    means = {method: 100 * mean(map(mean, scores)) for method, (_, scores, _) in found.items()}
    for text, passed in expected(scenario, found, means):
        say(f"* {'pass' if passed else 'FAIL'}: {text}")


def spread(values: Scores) -> str:
    """Mean and standard deviation in percent."""
    return (
        f"{100 * mean(values):.1f} ± {100 * stdev(values):.1f}"
        if len(values) > 1
        else f"{100 * values[0]:.1f}"
    )


def expected(
    scenario: str, found: dict[str, tuple[str, list[Scores], float]], means: dict[str, float]
) -> list[tuple[str, bool]]:
    """What any right implementation shows on this data."""
    naive = means["naive"]
    checks = []
    if scenario == "domain":
        transfer = 100 * found["naive"][2]
        checks.append((f"naive forgets: BWT {transfer:.1f}, at most -60", transfer <= -60))
        floors = {"EWC": 15, "EWC + floor": 22, "replay 100 per task": 28}
        checks += [gain(method, means[method] - naive, least) for method, least in floors.items()]
    if scenario == "permuted":
        checks += [gain(method, means[method] - naive, 20) for method in ("EWC", "EWC online")]
    if scenario == "class":
        first = 100 * mean(scores[0] for scores in found["naive"][1])
        checks.append((f"EWC alone does not solve it: {means['EWC']:.1f}, at most 70", means["EWC"] <= 70))
        checks.append((f"naive knows nothing of the first task: {first:.1f}, at most 1", first <= 1))
    if scenario in ("domain", "class"):
        checks.append((f"joint: {means['joint']:.1f}, at least 96", means["joint"] >= 96))
    return checks


def gain(method: str, points: float, least: float) -> tuple[str, bool]:
    return f"{method} over naive: {points:+.1f} points, at least +{least}", points >= least
