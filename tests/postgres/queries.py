"""Asks a server through psycopg and prints what came as JSON. Usage: queries.py CONNECTION PROJECT-STEP..."""

import json
import subprocess
import sys
import threading
import time

import psycopg

connection_string, *more_data = sys.argv[1:]
found = {}


def connect(**options):
    return psycopg.connect(connection_string, autocommit=True, **options)


with connect() as connection:
    # Text and binary answers to the same question, with parameters of several types.
    question = """
        select count(*), sum(touch_count), min(started_at), min(started_date), sum(value), bool_or(is_converted)
        from sessions where touch_count >= %s and entry_channel <> %s and started_at > %s
    """
    parameters = (1, "no such channel", "2000-01-01T00:00:00Z")
    answers = []
    for binary in (False, True):
        with connection.cursor(binary=binary) as cursor:
            cursor.execute(question, parameters)
            answers.append(cursor.fetchone())
            found["columns"] = [column.name for column in cursor.description]
    found["binary_equals_text"] = answers[0] == answers[1]
    found["types"] = [type(value).__name__ for value in answers[0]]
    found["answer"] = [str(value) for value in answers[0]]

    # Lists, nulls and no rows.
    found["list"] = connection.execute("select touchpoints from journeys where touch_count > 1 limit 1").fetchone()[0]
    found["null"] = connection.execute("select null::text, %s::text", (None,)).fetchone()
    found["no_rows"] = connection.execute("select * from sessions where touch_count < 0").fetchall()

    # A cursor of the server, and a transaction, of which there is none.
    with connection.transaction():
        with connection.cursor("some_rows") as cursor:
            cursor.execute("select value from generate_series(1, 5000)")
            found["cursor"] = [len(cursor.fetchmany(1000)), len(cursor.fetchall())]

    # What is prepared sees what later runs publish.
    prepared = "select count(*) from touchpoints where channel <> %s"
    for _ in range(7):
        before = connection.execute(prepared, ("none",), prepare=True).fetchone()[0]
    for command in more_data:
        subprocess.run(json.loads(command), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.6)
    found["before"], found["after"] = before, connection.execute(prepared, ("none",), prepare=True).fetchone()[0]

    # Errors: code, hint and position.
    errors = {}
    for name, sql in {
        "column": "select chanel from sessions",
        "table": "select * from sesions",
        "function": "select windowfunnel(1)",
        "syntax": "select * form sessions",
        "drop": "drop table sessions",
        "insert": "insert into sessions select * from sessions",
        "copy": "copy sessions to '/tmp/never.csv'",
        "create": "create table t as select 1",
        "settings": "select * from information_schema.df_settings",
        "two": "select 1; select 2",
        "events": "select * from events",
        "dead": "select * from dead_letters",
        "identity": "select * from identity_map",
        "file": "select * from '/etc/passwd'",
    }.items():
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                errors[name] = ["no error", str(cursor.fetchall())[:200]]
        except psycopg.Error as error:
            told = error.diag
            errors[name] = [told.sqlstate, told.message_primary, told.message_hint, told.statement_position]
    found["errors"] = errors
    found["alive"] = connection.execute("select 1").fetchone()[0]

    # A query that is taken back.
    endless = "select count(*) from generate_series(1, 100000000000) as a"
    timer = threading.Timer(1.0, connection.cancel)
    timer.start()
    began = time.monotonic()
    try:
        connection.execute(endless)
        found["cancelled"] = "no error"
    except psycopg.errors.QueryCanceled:
        found["cancelled"] = time.monotonic() - began < 20
    # One that takes longer than the client allows.
    connection.execute("set statement_timeout = '500ms'")
    try:
        connection.execute(endless)
        found["timeout"] = "no error"
    except psycopg.errors.QueryCanceled:
        found["timeout"] = True
    connection.execute("set statement_timeout = 0")
    found["alive_again"] = connection.execute("select 2").fetchone()[0]

print(json.dumps(found))
