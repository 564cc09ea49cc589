"""Who is who: usable identifiers, links, rulings, refusals, components and the customer of an event."""

import json
import re
from collections import defaultdict
from itertools import combinations

from values import Time, content_id, digest

BUILT_IN = {
    "", "null", "none", "undefined", "nan", "nil", "n/a", "na", "-", "(null)", "unknown", "anonymous", "guest", "test",
    "invalid", "not_authenticated", "email", "id", "true", "false", "[object object]", "0", "123456",
}
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
PRIORITY = ["user_id", "customer_id", "loyalty_id", "email", "phone", "device_id", "anonymous_id"]


def normalise(kind, value):
    value = value.strip()
    if kind == "email":
        return value.lower().removeprefix("mailto:").strip()
    if kind == "phone":
        return "".join(character for character in value if character in "0123456789")
    return value


def bare(value):
    """The form in which a value is held against the lists: trimmed, lower case, without quotes."""
    return value.strip().lower().strip("'\"`").strip()


def is_blocked(value, blocked):
    value = bare(value)
    if value in BUILT_IN or value in {bare(more) for more in blocked}:
        return True
    if len(set(value)) == 1:
        return True
    return bool(UUID.fullmatch(value)) and set(value) in ({"0", "-"}, {"f", "-"})


def usable(named, blocked):
    """Sorted distinct (kind, value) pairs that may identify somebody."""
    normal = {(kind, normalise(kind, value)) for kind, value in named if value is not None}
    return sorted((kind, value) for kind, value in normal if not is_blocked(value, blocked))


def read_rulings(folder):
    """The rulings in force, by number: of several on one pair the newest."""
    newest = {}
    for path in sorted(folder.glob("*.json")):
        ruling = json.loads(path.read_text())
        pair = frozenset((ruling[end]["kind"], ruling[end]["value"]) for end in ["from", "to"])
        if len(pair) == 2:
            newest[pair] = ruling
    ordered = sorted(newest.items(), key=lambda entry: entry[1]["number"])
    return {pair: ruling["verdict"] for pair, ruling in ordered}


class Identity:
    """Built once from all events; then `customer_of(event)`."""

    def __init__(self, events, config, rulings=None):
        self.limits = config.get("limits", {})
        self.max_links = config.get("max_links", 50)
        self.max_identifiers = config.get("max_identifiers", 50)
        self.priority = config.get("priority", PRIORITY)
        self.first, self.last, self.links = {}, {}, {}
        for event in events:
            time = event["occurred_at"]
            for identifier in event["identifiers"]:
                self.first[identifier] = min(time, self.first.get(identifier, time))
                self.last[identifier] = max(time, self.last.get(identifier, time))
            for pair in combinations(sorted(event["identifiers"], key=lambda found: digest(*found)), 2):
                link = self.links.setdefault(pair, {"first": time, "last": time, "count": 0})
                link["first"] = min(time, link["first"])
                link["last"] = max(time, link["last"])
                link["count"] += 1
        # A ruling waits until both identifiers were seen.
        self.rulings = {pair: verdict for pair, verdict in (rulings or {}).items() if pair <= self.first.keys()}
        self.refusals = []
        self.members = {identifier: {identifier} for identifier in self.first}
        self.resolve()
        self.customer = {}
        for identifier, members in self.members.items():
            elder = min(members, key=lambda found: (self.first[found], digest(*found)))
            self.customer[identifier] = content_id(*elder)
        self.component = self.components()

    def components(self):
        """The smallest content hash of what links lead to from each identifier, followed or refused."""
        neighbours = defaultdict(set)
        for a, b in [*self.links, *(pair for pair, verdict in self.rulings.items() if verdict == "link")]:
            neighbours[a].add(b)
            neighbours[b].add(a)
        found = {}
        for start in self.first:
            if start in found:
                continue
            reached, waiting = {start}, [start]
            while waiting:
                new = neighbours[waiting.pop()] - reached
                reached |= new
                waiting += new
            smallest = min(content_id(*identifier) for identifier in reached)
            found.update((identifier, smallest) for identifier in reached)
        return found

    def resolve(self):
        # A pair with a ruling is judged by that alone.
        links = {pair: link for pair, link in self.links.items() if frozenset(pair) not in self.rulings}
        seen = {frozenset(pair): link["first"] for pair, link in self.links.items()}
        for pair, verdict in self.rulings.items():
            a, b = sorted(pair, key=lambda identifier: digest(*identifier))
            if verdict == "link" and (rule := self.join(a, b)):
                self.refusals.append((a, b, seen.get(pair, max(self.first[a], self.first[b])), rule))
            if verdict == "split" and pair in seen:
                self.refusals.append((a, b, seen[pair], "ruling"))
        stronger = defaultdict(set)  # the neighbours of stronger kinds; only those make an identifier shared
        for pair in links:
            strong, weak = sorted(pair, key=lambda identifier: self.rank(identifier[0]))
            if self.rank(strong[0]) < self.rank(weak[0]):
                stronger[weak].add(strong)
        ordered = sorted(links.items(), key=lambda entry: (entry[1]["first"], *map(lambda i: digest(*i), entry[0])))
        for (a, b), link in ordered:
            crowded = 0 < self.max_links < max(len(stronger[a]), len(stronger[b]))
            rule = "max_links" if crowded else self.join(a, b)
            if rule:
                self.refusals.append((a, b, link["first"], rule))

    def join(self, a, b):
        """Makes one component of two, or answers the rule that forbids it."""
        if self.members[a] is self.members[b]:
            return None
        together = self.members[a] | self.members[b]
        if any(verdict == "split" and pair <= together for pair, verdict in self.rulings.items()):
            return "ruling"
        for kind in sorted(self.limits):
            if 0 < self.limits[kind] < sum(member[0] == kind for member in together):
                return f"limit:{kind}"
        if 0 < self.max_identifiers < len(together):
            return "max_identifiers"
        for member in together:
            self.members[member] = together
        return None

    def rank(self, kind):
        """Kinds in the order of the priority, the strongest first; those it does not name follow by name."""
        return (0, self.priority.index(kind), "") if kind in self.priority else (1, 0, kind)

    def customer_of(self, event):
        if not event["identifiers"]:
            return content_id("event", event["event_id"])
        strongest = min(event["identifiers"], key=lambda found: (self.rank(found[0]), found[1].encode()))
        return self.customer[strongest]

    def tables(self):
        return {
            "identity_map": [
                {
                    "kind": kind, "value": value, "customer_id": customer,
                    "first_seen_at": Time(self.first[kind, value]), "last_seen_at": Time(self.last[kind, value]),
                    "component": self.component[kind, value],
                }
                for (kind, value), customer in self.customer.items()
            ],
            "identity_links": [
                {
                    "from_kind": a[0], "from_value": a[1], "to_kind": b[0], "to_value": b[1],
                    "first_seen_at": Time(link["first"]), "last_seen_at": Time(link["last"]),
                    "event_count": link["count"], "component": self.component[a],
                }
                for (a, b), link in ((sorted(pair), link) for pair, link in self.links.items())
            ],
            "identity_refusals": [
                {
                    "from_kind": a[0], "from_value": a[1], "to_kind": b[0], "to_value": b[1],
                    "first_seen_at": Time(first), "rule": rule,
                    "component": self.component[a],
                }
                for (a, b), first, rule in ((sorted([a, b]), first, rule) for a, b, first, rule in self.refusals)
            ],
        }
