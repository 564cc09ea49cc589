"""Funnel attempts, funnel steps and drop-offs.

The furthest step is searched for in the definition's own words, step before step, and not in one pass; the two are
held against each other in test_oracle.py.
"""

from collections import defaultdict
from fractions import Fraction

from values import Day, Time, day_of, median, percentile


def matches(step, touch):
    names = {"*", touch["touchpoint"], f"{touch['channel']}:{touch['touchpoint']}"}
    return any(alternative.strip() in names for alternative in step.split("|"))


def latest_chain(touches, steps, window, end):
    """Positions of the newest chain whose last step is the touch at `end`; None when there is none."""
    if not matches(steps[-1], touches[end]):
        return None
    if len(steps) == 1:
        return [end]
    for before in range(end - 1, -1, -1):
        chain = latest_chain(touches, steps[:-1], window, before)
        if chain and touches[end]["occurred_at"] - touches[chain[0]]["occurred_at"] <= window:
            return [*chain, end]
        if chain:
            return None  # an older chain began no later: it is out of the window too
    return None


def witness(touches, steps, window):
    """The chain of the highest level, as it stood when that level was first reached."""
    best = []
    for level in range(1, len(steps) + 1):
        arrivals = (latest_chain(touches, steps[:level], window, end) for end in range(len(touches)))
        chain = next((chain for chain in arrivals if chain), None)
        if chain is None:
            break
        best = chain
    return best


def attempts(journeys, funnels, as_of):
    found = []
    for funnel in funnels:
        for journey in journeys:
            touches = journey["touches"]
            chain = witness(touches, funnel["steps"], funnel["window"])
            if chain:
                found.append(attempt(funnel, journey, touches, chain, as_of))
    return found


def attempt(funnel, journey, touches, chain, as_of):
    entered = touches[chain[0]]["occurred_at"]
    # As long as the window of the newest entry is open, the attempt can still get further.
    entries = [touch["occurred_at"] for touch in touches if matches(funnel["steps"][0], touch)]
    closes = max(entries) + funnel["window"]
    if len(chain) == len(funnel["steps"]):
        outcome = "converted"
    elif as_of <= closes and journey["state"] == "open":
        outcome = "open"
    elif any(touch["occurred_at"] > closes for touch in touches):
        outcome = "timed_out"
    else:
        outcome = "left"
    following = touches[chain[-1] + 1] if chain[-1] + 1 < len(touches) else None
    nowhere = {"converted": "(converted)", "open": "(open)"}.get(outcome, "(exit)")
    times = [touches[position]["occurred_at"] for position in chain]
    return {
        "funnel": funnel["funnel"],
        "journey_id": journey["journey_id"],
        "customer_id": journey["customer_id"],
        "furthest_step": len(chain),
        "step_positions": ",".join(str(position + 1) for position in chain),
        "entered_at": Time(entered),
        "entry_channel": touches[chain[0]]["channel"],
        "outcome": outcome,
        "next_touchpoint": following["touchpoint"] if following else nowhere,
        "next_channel": following["channel"] if following else nowhere,
        "times": times,
        "seconds_to_next": following["occurred_at"] - times[-1] if following else None,
    }


def attempt_rows(found):
    return [
        {name: value for name, value in row.items() if name not in ("times", "seconds_to_next")} for row in found
    ]


def funnel_steps(found, funnels):
    rows = []
    for funnel in funnels:
        cohorts = defaultdict(list)
        for row in found:
            if row["funnel"] == funnel["funnel"]:
                cohorts[day_of(row["entered_at"]), row["entry_channel"]].append(row)
        for (day, channel), cohort in cohorts.items():
            for step, name in enumerate(funnel["steps"], start=1):
                reached = [row for row in cohort if row["furthest_step"] >= step]
                gaps = [row["times"][step - 1] - row["times"][step - 2] for row in reached] if step > 1 else []
                last = step == len(funnel["steps"])
                rows.append({
                    "funnel": funnel["funnel"],
                    "entry_channel": channel,
                    "step": step,
                    "step_name": name,
                    "entered": len(cohort),
                    "reached": len(reached),
                    "converted_to_next": None if last else sum(row["furthest_step"] > step for row in cohort),
                    "median_seconds": median(gaps),
                    "p90_seconds": percentile(gaps, Fraction(9, 10)),
                    "entered_date": Day(day),
                })
    return rows


def drop_offs(found):
    cells = defaultdict(list)
    for row in found:
        key = (row["funnel"], row["furthest_step"], row["outcome"], row["next_touchpoint"], row["next_channel"])
        cells[key].append(row)
    return [
        {
            "funnel": funnel,
            "step": step,
            "outcome": outcome,
            "next_touchpoint": touchpoint,
            "next_channel": channel,
            "attempts": len(rows),
            "customers": len({row["customer_id"] for row in rows}),
            "median_seconds_to_next": median(
                [row["seconds_to_next"] for row in rows if row["seconds_to_next"] is not None]
            ),
        }
        for (funnel, step, outcome, touchpoint, channel), rows in cells.items()
    ]
