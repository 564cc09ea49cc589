"""Aggregates over journeys: paths, edges, channel switches, stage and channel cells."""

from collections import Counter, defaultdict
from itertools import groupby

from journeys import total
from values import Day, day_of, mean, median, ratio

DEPTH = 8


def collapsed(journey):
    """(touchpoint, time of its first touch) of every run of equal touchpoints."""
    runs = groupby(journey["touches"], key=lambda touch: touch["touchpoint"])
    return [(touchpoint, next(run)["occurred_at"]) for touchpoint, run in runs]


def customers(rows):
    return len({row["customer_id"] for row in rows})


def paths(journeys):
    cells = defaultdict(list)
    for journey in journeys:
        nodes = [touchpoint for touchpoint, _ in collapsed(journey)]
        path = " > ".join(nodes[:DEPTH]) + (" > …" if len(nodes) > DEPTH else "")
        cells[path, journey["started_date"]].append(journey)
    return [
        {
            "path": path,
            "journeys": len(rows),
            "customers": customers(rows),
            "converted": sum(row["is_converted"] for row in rows),
            "value": total(rows),
            "conversion_rate": ratio(sum(row["is_converted"] for row in rows), len(rows)),
            "started_date": day,
        }
        for (path, day), rows in cells.items()
    ]


def path_edges(journeys):
    cells = defaultdict(list)
    for journey in journeys:
        nodes = collapsed(journey)
        cells[0, "(start)", nodes[0][0]].append((journey, None))
        for position, (touchpoint, time) in enumerate(nodes[:DEPTH], start=1):
            if position == len(nodes):
                cells[position, touchpoint, "(exit)"].append((journey, None))
            else:
                following, later = nodes[position]
                to = "(rest)" if position == DEPTH else following
                cells[position, touchpoint, to].append((journey, later - time))
    return [
        {
            "position": position,
            "from_touchpoint": origin,
            "to_touchpoint": to,
            "journeys": len(rows),
            "converted": sum(journey["is_converted"] for journey, _ in rows),
            "median_seconds": median([gap for _, gap in rows if gap is not None]),
        }
        for (position, origin, to), rows in cells.items()
    ]


def channel_switches(journeys):
    cells = defaultdict(list)
    for journey in journeys:
        touches = journey["touches"]
        for before, after in zip(touches, touches[1:]):
            if before["channel"] != after["channel"]:
                scope = "within" if before["session_id"] == after["session_id"] else "between"
                key = (before["channel"], after["channel"], scope, day_of(after["occurred_at"]))
                cells[key].append({
                    "customer_id": journey["customer_id"],
                    "converted_after": journey["state"] == "converted",
                    "exited_after": after is touches[-1] and journey["state"] == "expired",
                    "repeated_after": after["touchpoint"] == before["touchpoint"],
                    "gap": after["occurred_at"] - before["occurred_at"],
                })
    return [
        {
            "from_channel": origin,
            "to_channel": to,
            "scope": scope,
            "switches": len(rows),
            "customers": customers(rows),
            **{name: sum(row[name] for row in rows) for name in ["converted_after", "exited_after", "repeated_after"]},
            "median_gap_seconds": median([row["gap"] for row in rows]),
            "switched_date": Day(day),
        }
        for (origin, to, scope, day), rows in cells.items()
    ]


def cell_of(touch):
    return touch["resolved_stage"] or "(none)", touch["channel"]


def visits_of(journey):
    """Runs of neighbouring touches in one (stage, channel) cell."""
    runs = [list(run) for _, run in groupby(journey["touches"], key=cell_of)]
    for number, run in enumerate(runs):
        following = runs[number + 1] if number + 1 < len(runs) else None
        left = following[0] if following else run[-1]
        yield {
            "cell": cell_of(run[0]),
            "day": day_of(run[0]["occurred_at"]),
            "customer_id": journey["customer_id"],
            "touches": len(run),
            "next": cell_of(following[0]) if following else None,
            "exit": following is None and journey["state"] == "expired",
            "converted": journey["is_converted"],
            "stay": left["occurred_at"] - run[0]["occurred_at"],
        }


def stage_channels(journeys):
    cells, scores = defaultdict(list), defaultdict(lambda: defaultdict(list))
    for journey in journeys:
        for visit in visits_of(journey):
            cells[*visit["cell"], visit["day"]].append(visit)
        for touch in journey["touches"]:
            if touch["score"] is not None and touch["score_kind"] is not None:
                scores[*cell_of(touch), day_of(touch["occurred_at"])][touch["score_kind"]].append(touch["score"])
    rows = []
    for stage, channel, day in cells.keys() | scores.keys():
        visits = cells.get((stage, channel, day), [])
        scored = scores.get((stage, channel, day), {})
        onward = Counter(visit["next"] for visit in visits if visit["next"])
        following = min(onward, key=lambda cell: (-onward[cell], cell)) if onward else (None, None)
        converted = sum(visit["converted"] for visit in visits)
        rows.append({
            "stage": stage,
            "channel": channel,
            "touches": sum(visit["touches"] for visit in visits),
            "reach": customers(visits),
            "entries": len(visits),
            "exits": sum(visit["exit"] for visit in visits),
            "converted": converted,
            "median_seconds": median([visit["stay"] for visit in visits]),
            "next_stage": following[0],
            "next_channel": following[1],
            "conversion_rate": ratio(converted, len(visits)),
            **{f"mean_{kind}": mean(scored.get(kind)) for kind in ["csat", "ces", "nps"]},
            "occurred_date": Day(day),
        })
    return rows
