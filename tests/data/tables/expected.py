#!/usr/bin/env python3
"""What the weather report must say of seattle-weather.csv, computed by other means: SQLite, and decimals.

    python3 tests/data/tables/expected.py > tests/data/tables/weather-expected.json
"""
import csv
import json
import pathlib
import sqlite3
from decimal import ROUND_HALF_UP, Decimal

table = pathlib.Path(__file__).with_name("seattle-weather.csv")
db = sqlite3.connect(":memory:")
db.execute("CREATE TABLE days (date, year, rain INTEGER, high INTEGER, low INTEGER, weather)")
with table.open(newline="") as file:
    for row in csv.DictReader(file):
        tenths = [int(Decimal(row[name]) * 10) for name in ("precipitation", "temp_max", "temp_min")]
        date = row["date"].replace("/", "-")
        db.execute("INSERT INTO days VALUES (?, ?, ?, ?, ?, ?)", [date, date[:4], *tenths, row["weather"]])


def mean(tenths, count):
    exact = Decimal(tenths) / 10 / count
    return float(exact.quantize(Decimal("0.01"), ROUND_HALF_UP))


def summary(where, *args):
    one = lambda sql: db.execute(f"{sql} FROM days WHERE {where}", args).fetchone()
    days, high, low, highest, lowest, rain = one(
        "SELECT count(*), sum(high), sum(low), max(high), min(low), sum(rain)"
    )
    (wettest,) = db.execute(f"SELECT date FROM days WHERE {where} ORDER BY rain DESC, date LIMIT 1", args).fetchone()
    kinds = db.execute(f"SELECT weather, count(*) FROM days WHERE {where} GROUP BY 1 ORDER BY 1", args)
    return {
        "days": days,
        "mean_temp_max": mean(high, days),
        "mean_temp_min": mean(low, days),
        "highest": highest / 10,
        "lowest": lowest / 10,
        "precipitation": rain / 10,
        "wettest_day": wettest,
        "weather": dict(kinds.fetchall()),
    }


years = [year for (year,) in db.execute("SELECT DISTINCT year FROM days ORDER BY 1")]
print(json.dumps({"all": summary("true"), "years": {y: summary("year = ?", y) for y in years}}, indent=2))
