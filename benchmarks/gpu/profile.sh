#!/bin/sh
# Where a training step spends its time on a GPU, kernel by kernel, by Nsight Compute:
#
#   sh profile.sh PATH/TO/dry OUTPUT.csv [NAME=VALUE...]
#
# PATH/TO/dry is the example of reformer-core (`cargo build --release --workspace --features
# experiments/cuda --example dry`), NAME=VALUE its settings (LENGTH=16384 DEPTH=2 ...). One step is made, so
# products that Burn tunes are there many times. OUTPUT.csv has every launch.
set -eu
[ $# -ge 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
program=$1 output=$2
shift 2
env "$@" STEPS=1 ncu --clock-control none --csv \
    --metrics gpu__time_duration.sum,dram__bytes.sum "$program" > "$output"
python3 - "$output" <<'PY'
import collections
import csv
import sys

UNITS = {"ns": 1e-6, "us": 1e-3, "ms": 1.0, "nsecond": 1e-6, "usecond": 1e-3, "msecond": 1.0,
         "byte": 1e-9, "Kbyte": 1e-6, "Mbyte": 1e-3, "Gbyte": 1.0}
lines = [line for line in open(sys.argv[1]) if line.startswith('"')]
launches = collections.OrderedDict()
for row in csv.DictReader(lines):
    value = float(row["Metric Value"].replace(",", "")) * UNITS.get(row["Metric Unit"], 1e-9)
    launch = launches.setdefault(row["ID"], {"name": row["Kernel Name"].split("(")[0]})
    launch["ms" if "time" in row["Metric Name"] else "GB"] = value
table = collections.defaultdict(lambda: [0, 0.0, 0.0])
for launch in launches.values():
    entry = table[launch["name"]]
    entry[0] += 1
    entry[1] += launch.get("ms", 0.0)
    entry[2] += launch.get("GB", 0.0)
for name, (n, ms, gb) in sorted(table.items(), key=lambda item: -item[1][1]):
    print(f"{ms:9.3f} ms {n:5d} {gb:8.3f} GB  {name}")
print(f"{sum(ms for _, ms, _ in table.values()):9.3f} ms {sum(n for n, _, _ in table.values()):5d} "
      f"{sum(gb for _, _, gb in table.values()):8.3f} GB  all")
PY
