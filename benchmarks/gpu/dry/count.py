"""Counts what a step asked the driver for: python3 count.py LOG_OF_ONE_LAYER LOG_OF_TWO [--kernels].

A layer is what the second log has more than the first one; the rest of the first one is loss and
embedding. Prints a line of JSON, and with --kernels a table by kernel.
"""

import collections
import json
import re
import sys


def step(path):
    """Lines of the second step: the first one tunes and compiles."""
    lines = open(f"{path}/log").read().splitlines()
    first = lines.index("# step 1")
    last = next(i for i in range(first, len(lines)) if lines[i].startswith("# end 1"))
    return lines[first:last], lines


def kernels(lines):
    """Launches and bytes by kernel."""
    found = collections.defaultdict(lambda: [0, 0])
    for line in lines:
        if line.startswith("L "):
            _, name, _, *numbers = line.split()
            numbers = [int(number) for number in numbers]
            # Attention's gradients have the name of others, but take all of the shared memory there is.
            name = re.sub(r"_n_?\d*$", "", name)
            if name.startswith("differentiate") and numbers[6] > 8192:
                name = "attention_" + name
            found[name][0] += 1
            found[name][1] += numbers[7]
    return found


def is_elementwise(name):
    return not re.match(r"attend|attention_|largest|walk|sum_segments|begin_buckets|find|matmul|multiply_f", name)


def totals(found):
    return {
        "launches": sum(n for n, _ in found.values()),
        "elementwise_gb": round(sum(b for name, (_, b) in found.items() if is_elementwise(name)) / 1e9, 3),
    }


def copied(lines, kind):
    return sum(int(line.split()[1]) for line in lines if line.startswith(kind))


def main(one, two, *options):
    (first, all_lines), (second, _) = step(one), step(two)
    of_one, of_two = kernels(first), kernels(second)
    layer = {k: [a - b for a, b in zip(of_two[k], of_one.get(k, [0, 0]))] for k in of_two}
    rest = {k: [a - b for a, b in zip(of_one[k], layer.get(k, [0, 0]))] for k in of_one}
    most = max(int(m[1]) for line in all_lines if (m := re.search(r"most (\d+)", line)))
    print(json.dumps({
        "layer": totals(layer),
        "rest": totals(rest),
        "uploaded_bytes_layer": copied(second, "H2D") - copied(first, "H2D"),
        "uploaded_bytes_step": copied(first, "H2D"),
        "read_back": sum(line.startswith("D2H") for line in first),
        "reserved_mib": most,
        "bad_launches": sum("BAD" in line for line in all_lines),
    }))
    if "--kernels" in options:
        for title, table in (("layer", layer), ("loss and embedding", rest)):
            print(f"\n{title}")
            for name, (n, bytes_) in sorted(table.items(), key=lambda item: -item[1][1]):
                if n:
                    print(f"{n:6d}  {bytes_ / 1e9:8.3f} GB  {name}")


if __name__ == "__main__":
    main(*sys.argv[1:])
