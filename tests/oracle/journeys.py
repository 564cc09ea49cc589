"""Customers' events in order: touches, sessions, journeys, customers."""

from collections import Counter, defaultdict
from decimal import Decimal

from landing import event_columns
from values import SECOND, Day, Time, content_id, day_of

NOTHING = Decimal("0.0000")


class Settings:
    """What wayline.toml says about sessions, journeys, stages and goals."""

    def __init__(self, config, parse_duration):
        self.session_timeout = parse_duration(config.get("sessions", {}).get("timeout", "30m"))
        self.journey_timeout = parse_duration(config.get("journeys", {}).get("timeout", "30d"))
        self.goals = config.get("journeys", {}).get("goal", [])
        self.stage_of = {
            touchpoint: stage for stage, touchpoints in config.get("stages", {}).items() for touchpoint in touchpoints
        }
        self.funnels = [
            {"funnel": funnel["name"], "steps": funnel["steps"], "window": parse_duration(funnel["window"])}
            for funnel in config.get("funnels", [])
        ]

    def is_goal(self, touch):
        return touch["touchpoint"] in self.goals or f"{touch['channel']}:{touch['touchpoint']}" in self.goals


def walk(events, identity, settings):
    """Adds customer, session, journey and stage to every event; answers them in order, customer by customer."""
    by_customer = defaultdict(list)
    for event in events:
        event["customer_id"] = identity.customer_of(event)
        event["resolved_stage"] = event["stage"] or settings.stage_of.get(event["touchpoint"])
        event["is_goal"] = settings.is_goal(event)
        by_customer[event["customer_id"]].append(event)
    touches = []
    for customer in sorted(by_customer):
        ordered = sorted(by_customer[customer], key=lambda event: (event["occurred_at"], event["event_id"].encode()))
        previous = None
        for event in ordered:
            gap = event["occurred_at"] - previous["occurred_at"] if previous else None
            new_session = previous is None or gap > settings.session_timeout
            new_journey = previous is None or gap > settings.journey_timeout or previous["is_goal"]
            event["session_id"] = content_id("session", event["event_id"]) if new_session else previous["session_id"]
            event["journey_id"] = content_id("journey", event["event_id"]) if new_journey else previous["journey_id"]
            event["position"] = 1 if new_journey else previous["position"] + 1
            event["previous_channel"] = None if new_journey else previous["channel"]
            event["seconds_since_previous"] = None if new_journey else gap / SECOND
            previous = event
        touches.extend(ordered)
    return touches


def groups(touches, key):
    """Touches by key, each group in order."""
    found = defaultdict(list)
    for touch in touches:
        found[touch[key]].append(touch)
    return list(found.values())


def switches(touches):
    return sum(a["channel"] != b["channel"] for a, b in zip(touches, touches[1:]))


def total(touches):
    return sum((touch["value"] for touch in touches if touch["value"] is not None), NOTHING)


def ends(touches):
    first, last = touches[0], touches[-1]
    return {
        "entry_channel": first["channel"], "entry_touchpoint": first["touchpoint"],
        "exit_channel": last["channel"], "exit_touchpoint": last["touchpoint"],
    }


def span(touches):
    started, ended = touches[0]["occurred_at"], touches[-1]["occurred_at"]
    return {"started_date": Day(day_of(started)), "started_at": Time(started), "ended_at": Time(ended)}


def touchpoint_rows(touches):
    return [
        {
            **event_columns(touch),
            "stage": touch["resolved_stage"],
            **{name: touch[name] for name in ["customer_id", "session_id", "journey_id", "position",
                                              "previous_channel", "seconds_since_previous"]},
        }
        for touch in touches
    ]


def session_rows(touches):
    return [
        {
            "session_id": session[0]["session_id"],
            "customer_id": session[0]["customer_id"],
            **ends(session),
            "touch_count": len(session),
            "channel_count": len({touch["channel"] for touch in session}),
            "switch_count": switches(session),
            "value": total(session),
            "is_converted": any(touch["is_goal"] for touch in session),
            **span(session),
        }
        for session in groups(touches, "session_id")
    ]


def build_journeys(touches, settings, as_of):
    """Journeys with their touches; what every other mart is made from."""
    journeys = []
    for journey in groups(touches, "journey_id"):
        journeys.append({
            "journey_id": journey[0]["journey_id"],
            "customer_id": journey[0]["customer_id"],
            "state": None,
            "touch_count": len(journey),
            "session_count": len({touch["session_id"] for touch in journey}),
            "switch_count": switches(journey),
            "value": total(journey),
            "is_converted": journey[-1]["is_goal"],
            **span(journey),
            **ends(journey),
            "touches": journey,
        })
    for journey in journeys:
        silent = as_of - journey["ended_at"] > settings.journey_timeout
        journey["state"] = "converted" if journey["is_converted"] else "expired" if silent else "open"
    return journeys


def without_lists(journeys):
    return [{name: value for name, value in journey.items() if name != "touches"} for journey in journeys]


def customer_rows(touches, journeys, identity, settings, as_of):
    kinds = defaultdict(Counter)
    for (kind, _), customer in identity.customer.items():
        kinds[customer][kind] += 1
    of_customer = defaultdict(list)
    for journey in journeys:
        of_customer[journey["customer_id"]].append(journey)
    rows = []
    for own in groups(touches, "customer_id"):
        customer = own[0]["customer_id"]
        latest = {touch["score_kind"]: touch["score"] for touch in own if touch["score"] is not None}
        rows.append({
            "customer_id": customer,
            "identifier_count": sum(kinds[customer].values()),
            "identifier_kinds": ",".join(f"{kind}={count}" for kind, count in sorted(kinds[customer].items())),
            "channels": ",".join(sorted({touch["channel"] for touch in own})),
            "lifecycle_state": lifecycle([touch["occurred_at"] for touch in own], settings.journey_timeout, as_of),
            "event_count": len(own),
            "session_count": len({touch["session_id"] for touch in own}),
            "journey_count": len(of_customer[customer]),
            "converted_count": sum(journey["is_converted"] for journey in of_customer[customer]),
            "value_total": total(own),
            **{f"latest_{kind}": latest.get(kind) for kind in ["csat", "ces", "nps"]},
            "first_seen_date": Day(day_of(own[0]["occurred_at"])),
            "first_seen_at": Time(own[0]["occurred_at"]),
            "last_seen_at": Time(own[-1]["occurred_at"]),
        })
    return rows


def lifecycle(times, timeout, as_of):
    times = [time for time in times if time <= as_of] or times[:1]
    run_starts = [times[0]] + [b for a, b in zip(times, times[1:]) if b - a > timeout]
    if as_of - times[-1] > timeout:
        return "dormant"
    if len(run_starts) == 1 and as_of - times[0] <= timeout:
        return "new"
    if len(run_starts) >= 2 and as_of - run_starts[-1] <= timeout:
        return "resurrected"
    return "returning"
