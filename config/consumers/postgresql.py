#!/usr/bin/env python3
"""Stores what Tidemill's gateways publish in PostgreSQL, each reading exactly once, and reports gaps.

    apt-get install python3-paho-mqtt python3-psycopg     # or: pip install paho-mqtt psycopg
    psql -f postgresql.sql
    python3 postgresql.py --broker 127.0.0.1:1883 --database "dbname=telemetry"

How it comes to exactly once: gateway and broker deliver at least once. A message is acknowledged to the broker only
after it is committed here, so none is lost when this program, the database or the machine stops in between; what
is delivered again bears the same (gateway, epoch, seq), and the primary key refuses it.
"""
import argparse
import json
import os
import sys
import zlib
from datetime import datetime, timedelta, timezone

import paho.mqtt.client as mqtt
import psycopg

READING = """INSERT INTO readings
    (gateway, epoch, seq, time, channel, number, truth, text, unit, quality, reason, historical)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"""
GAP = """INSERT INTO gaps (gateway, epoch, seq, from_time, to_time, count, channel, reason)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"""
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def typed(value):
    """A value in the column of its type: number, truth, text."""
    if isinstance(value, bool):
        return None, value, None
    if isinstance(value, (int, float)):
        return float(value), None, None
    return None, None, value


def reading(gateway, channel, r):
    """A row of the format `json`."""
    return (gateway, r["epoch"], r["seq"], r["time"], channel, *typed(r["value"]), r["unit"],
            r["quality"], r.get("reason"), r.get("historical", False))


def pack(payload):
    """Rows of the format `senml`, compressed or not (RFC 8428; the first bytes tell)."""
    if payload[:1] == b"\x78":
        payload = zlib.decompress(payload)
    elif payload[:4] == b"\x28\xb5\x2f\xfd":
        import zstandard  # only for compress = "zstd"
        payload = zstandard.ZstdDecompressor().decompressobj().decompress(payload)
    records = json.loads(payload, parse_float=str)  # microseconds survive as text
    first = records[0]
    gateway = first["bn"].rstrip("/")
    for r in records:
        seconds, _, fraction = str(r["t"]).partition(".")
        time = EPOCH + timedelta(seconds=int(seconds), microseconds=int(fraction or 0))
        number = float(r["v"]) if "v" in r else None
        yield (gateway, first["epoch"], r["seq"], time, r["n"], number, r.get("vb"), r.get("vs"), r.get("u"),
               r.get("quality", "good"), r.get("reason"), first.get("historical", False))


class Consumer:
    def __init__(self, options):
        self.options = options
        self.database = psycopg.connect(options.database)
        self.prefix = options.prefix.rstrip("/").split("/")

    def on_connect(self, client, _userdata, _flags, rc, *_):
        if rc != 0:
            sys.exit(f"the broker refuses the connection: {rc}")
        # The prefix ends with the gateway's id: one level.
        client.subscribe("/".join(self.prefix) + "/+/#", qos=1)
        print("connected", flush=True)

    def on_message(self, _client, _userdata, message):
        """Committed when it returns; only then paho acknowledges. An error ends the program: nothing is lost."""
        gateway, *rest = message.topic.split("/")[len(self.prefix):]
        with self.database.transaction(), self.database.cursor() as cursor:
            if rest == ["senml"]:
                cursor.executemany(READING, list(pack(message.payload)))
            elif rest == ["gaps"]:
                g = json.loads(message.payload)
                cursor.execute(GAP, (gateway, g["epoch"], g["seq"], g["from"], g["to"], g["count"], g["channel"],
                                     g["reason"]))
                if cursor.rowcount:
                    print(f"gap: {gateway}: {g['count']} readings of {g['channel'] or 'several channels'} "
                          f"from {g['from']} to {g['to']}: {g['reason']}", flush=True)
            elif len(rest) == 2 and rest[1] not in ("set", "result"):
                cursor.execute(READING, reading(gateway, "/".join(rest), json.loads(message.payload)))

    def run(self):
        arguments = {"client_id": self.options.client_id, "clean_session": False}
        if hasattr(mqtt, "CallbackAPIVersion"):  # paho-mqtt 2
            arguments["callback_api_version"] = mqtt.CallbackAPIVersion.VERSION2
        client = mqtt.Client(**arguments)
        client.on_connect, client.on_message = self.on_connect, self.on_message
        if self.options.username:
            client.username_pw_set(self.options.username, os.environ.get("MQTT_PASSWORD"))
        if self.options.tls:
            client.tls_set()
        host, _, port = self.options.broker.partition(":")
        client.connect(host, int(port or (8883 if self.options.tls else 1883)))
        client.loop_forever(retry_first_connection=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--broker", default="127.0.0.1:1883", help="host:port")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--username", help="the password is in MQTT_PASSWORD")
    parser.add_argument("--client-id", default="tidemill-postgresql", help="the broker keeps messages for it")
    parser.add_argument("--prefix", default="tidemill", help="topic_prefix without /{gateway}")
    parser.add_argument("--database", default="", help="as psql takes it: dbname=telemetry, or a postgresql:// URL")
    Consumer(parser.parse_args()).run()


if __name__ == "__main__":
    main()
