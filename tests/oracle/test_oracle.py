#!/usr/bin/env python3
"""Holds the oracle against rules it was not written from: `python3 tests/oracle/test_oracle.py`."""

import random
import unittest
from collections import Counter
from itertools import combinations
from pathlib import Path

from funnels import matches, witness
from identity import usable
from mapping import Expression
from oracle import compute
from values import DAY, Refused, SECOND, parse_amount, parse_duration, parse_time, percentile

SAMPLES = Path(__file__).parent.parent.parent / "sample-data"


def touches(*named):
    return [{"touchpoint": touchpoint, "channel": "web", "occurred_at": time * SECOND} for touchpoint, time in named]


def one_pass(stream, steps, window):
    """The funnel rule as one pass: (level, chain when that level was first reached)."""
    chains, best = [None] * (len(steps) + 1), []
    for position, touch in enumerate(stream):
        for step in range(len(steps), 0, -1):
            if not matches(steps[step - 1], touch):
                continue
            if step == 1:
                chains[1] = [position]
            elif chains[step - 1] and touch["occurred_at"] - stream[chains[step - 1][0]]["occurred_at"] <= window:
                chains[step] = [*chains[step - 1], position]
            else:
                continue
            if step > len(best):
                best = chains[step]
    return best


def deepest(stream, steps, window):
    """The furthest step by trying every combination of touches."""
    for level in range(len(steps), 0, -1):
        for chain in combinations(range(len(stream)), level):
            span = stream[chain[-1]]["occurred_at"] - stream[chain[0]]["occurred_at"]
            if span <= window and all(matches(step, stream[at]) for step, at in zip(steps, chain)):
                return level
    return 0


class Funnels(unittest.TestCase):
    def test_definition_one_pass_and_every_combination_agree(self):
        chance = random.Random(7)
        for _ in range(3_000):
            stream, time = [], 0
            for _ in range(chance.randint(0, 8)):
                time += chance.choice([0, 1, 1, 2, 5])
                stream.append((chance.choice("abcx"), time))
            stream = touches(*stream)
            steps = [chance.choice(["a", "b", "c", "a|b", "web:c", "*"]) for _ in range(chance.randint(1, 4))]
            window = chance.randint(0, 8) * SECOND
            chain = witness(stream, steps, window)
            self.assertEqual(chain, one_pass(stream, steps, window), (stream, steps, window))
            self.assertEqual(len(chain), deepest(stream, steps, window), (stream, steps, window))

    def test_window_includes_its_end(self):
        steps = ["a", "b"]
        self.assertEqual(witness(touches(("a", 0), ("b", 10)), steps, 10 * SECOND), [0, 1])
        self.assertEqual(witness(touches(("a", 0), ("b", 11)), steps, 10 * SECOND), [0])

    def test_of_first_arrivals_the_latest_entry_is_the_witness(self):
        self.assertEqual(witness(touches(("a", 0), ("a", 3), ("b", 4), ("b", 5)), ["a", "b"], DAY), [1, 2])
        self.assertEqual(witness(touches(("a", 0), ("a", 3)), ["a", "b"], DAY), [0])

    def test_one_touch_serves_one_step(self):
        self.assertEqual(witness(touches(("a", 0)), ["a", "a"], DAY), [0])


class Values(unittest.TestCase):
    def test_times_need_an_offset_and_a_real_day(self):
        self.assertEqual(parse_time("1970-01-01T01:00:00.0000019+01:00"), 1)
        for text, reason in [
            ("2025-01-01T00:00:00", "tz_invalid"),
            ("2025-02-30T00:00:00Z", "ts_invalid"),
            ("2025-01-01T24:00:00Z", "ts_invalid"),
            ("1735689600", "ts_invalid"),
        ]:
            with self.assertRaises(Refused) as refused:
                parse_time(text)
            self.assertEqual(refused.exception.reason, reason)

    def test_amounts_are_plain_numbers(self):
        self.assertEqual(str(parse_amount("-0.1")), "-0.1000")
        for text in ["twelve", "1,234", "NaN", "1e3", " 1", ""]:
            with self.assertRaises(Refused):
                parse_amount(text)

    def test_durations_and_percentiles(self):
        self.assertEqual(parse_duration("1h 30m"), 5_400 * SECOND)
        self.assertEqual(percentile([4 * SECOND, SECOND], 0.5), 2.5)
        self.assertIsNone(percentile([], 0.5))

    def test_expressions(self):
        record = {"a": " X ", "b": {"c": "1", "d": None}, "timestamp": "2025-01-01 10:00:00"}
        for text, answer in [
            ("lower(trim(a))", "x"),
            ("b['c'] || '-' || 'it''s'", "1-it's"),
            ("b['d'] || 'x'", None),
            ("concat(b['d'], 'x')", "x"),
            ("coalesce(b['d'], missing, 'z')", "z"),
            ("nullif(b['c'], '1')", None),
            ("replace(\"timestamp\", ' ', 'T') || 'Z'", "2025-01-01T10:00:00Z"),
            ("case when b['c'] = '1' then 'one' else 'other' end", "one"),
            ("case when b['d'] <> '1' then 'one' end", None),
        ]:
            self.assertEqual(Expression(text)(record), answer, text)

    def test_sentinels_identify_nobody(self):
        for kind, value in [
            ("user_id", "NULL"), ("user_id", '"unknown"'), ("device_id", "00000000-0000-0000-0000-000000000000"),
            ("phone", "n/a"), ("email", "mailto:"), ("user_id", "1111"), ("loyalty_id", "House "),
        ]:
            self.assertEqual(usable([(kind, value)], ["house"]), [], (kind, value))
        self.assertEqual(usable([("email", " Mailto:A@b.C ")], []), [("email", "a@b.c")])
        self.assertEqual(usable([("phone", "+49 (30) 12")], []), [("phone", "493012")])


class Laws(unittest.TestCase):
    """What must hold over whole projects."""

    @classmethod
    def setUpClass(cls):
        cls.projects = {name: compute(SAMPLES / name) for name in ["odd-cases", "shop"]}

    def each(self):
        for name, tables in self.projects.items():
            with self.subTest(project=name):
                yield tables

    def test_rows_in_are_landed_or_duplicates_or_dead_letters(self):
        for tables in self.each():
            for row in tables["data_quality"]:
                self.assertEqual(row["rows_in"], row["landed"] + row["duplicates"] + row["dead_letters"])

    def test_what_flows_into_a_node_of_path_edges_flows_out(self):
        for tables in self.each():
            arriving, leaving = Counter(), Counter()
            for row in tables["path_edges"]:
                if not (row["to_touchpoint"] in ("(exit)", "(rest)")):
                    arriving[row["position"] + 1, row["to_touchpoint"]] += row["journeys"]
                if row["position"] > 0:
                    leaving[row["position"], row["from_touchpoint"]] += row["journeys"]
            self.assertEqual(arriving, leaving)

    def test_drop_offs_add_up_to_those_who_entered(self):
        for tables in self.each():
            dropped, entered = Counter(), Counter()
            for row in tables["drop_offs"]:
                dropped[row["funnel"]] += row["attempts"]
            for row in tables["funnel_steps"]:
                entered[row["funnel"]] += row["entered"] if row["step"] == 1 else 0
            self.assertEqual(dropped, entered)

    def test_counts_of_touches_agree_wherever_they_are_counted(self):
        for tables in self.each():
            landed = len(tables["events"])
            for table, column in [
                ("sessions", "touch_count"), ("journeys", "touch_count"), ("customers", "event_count"),
                ("stage_channels", "touches"),
            ]:
                self.assertEqual(sum(row[column] for row in tables[table]), landed, table)
            journeys = len(tables["journeys"])
            for table in ["paths", "customers"]:
                column = "journeys" if table == "paths" else "journey_count"
                self.assertEqual(sum(row[column] for row in tables[table]), journeys, table)
            switches = sum(row["switch_count"] for row in tables["journeys"])
            self.assertEqual(sum(row["switches"] for row in tables["channel_switches"]), switches)

    def test_a_customer_has_no_more_of_a_kind_than_its_limit(self):
        for tables in self.each():
            users = Counter(row["customer_id"] for row in tables["identity_map"] if row["kind"] == "user_id")
            self.assertLessEqual(max(users.values()), 1)


if __name__ == "__main__":
    unittest.main()
