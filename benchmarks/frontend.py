"""The front end against plain Biopython and against the floor, on the same files in one run.

Simulates the files, then measures on each, with one core and with two:

(a) peer: the same rules written plainly, as tools do it today: Biopython's parser, a dict of
    codons, strings. Timed on the plain file's first records only (its cost is linear), on one
    core, for packed files and two cores too. Twice: translating every frame to its end, and leaving
    a frame at its first stop (the columns with "early").
(b) ours: `virnuc index` in a process that has indexed a small file before, the same once more in
    that process ("again": its memory is its own by then), and the whole command.
(c) floor: reading the file through the decompressor and writing as many bytes as an index holds,
    synchronised to disk as an index is.

Every measurement runs in a process of its own, bound to its cores; on each line of the table the
peer and ours take turns, and the median of the repeats is kept. Before each, another process takes
memory and gives it back: the host of a virtual machine may have taken away what was free. Where a
machine is shared, seconds of a clock tell as much of the others: columns with "cpu" count the
processor's time that a process used itself, in all its threads. Needs the extra `bench`.

    python benchmarks/frontend.py --output benchmarks/results/frontend.json
    python benchmarks/frontend.py --scaling --output benchmarks/results/frontend-scaling.json
    python benchmarks/frontend.py --stages --output benchmarks/results/frontend-stages.json
    python benchmarks/frontend.py --limits --output benchmarks/results/frontend-limits.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import mmap
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

BASES = np.frombuffer(b"ACGT", np.uint8)
READ_LENGTH = 150
LINE = 80
SEQUENCE_TABLES = ("nucleotides.arrow", "proteins.arrow")
# More than any measurement takes, in bytes.
MEMORY_IN_PLACE = 3 << 29
PEER_RECORDS = {"reads": 20_000, "contigs": 3}


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reads", type=int, default=1_000_000)
    parser.add_argument("--contigs", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scaling", action="store_true", help="10 k to 6 M reads instead")
    parser.add_argument("--stages", action="store_true", help="where an index's time goes instead")
    parser.add_argument("--limits", action="store_true", help="what any index takes instead")
    parser.add_argument("--folder", type=Path, help="where files and indexes go; default: /tmp")
    parser.add_argument("--output", type=Path, default=Path("frontend.json"))
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(MEASURES[options.measure[0]](*options.measure[1:])))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        chosen = [table for table in (scaling, stages, limits) if getattr(options, table.__name__)]
        rows = (chosen or [compare])[0](options, Path(folder))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    result = {"machine": machine(), "repeats": options.repeats, "rows": rows}
    options.output.write_text(json.dumps(result, indent=2) + "\n")


def compare(options: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """Every file, chunk length and number of cores."""
    reads, contigs = folder / "reads.fa", folder / "contigs.fa"
    simulate(reads, options.reads, READ_LENGTH)
    simulate(contigs, options.contigs, 1_000_000)
    rows: list[dict[str, object]] = []
    files = ((reads, (300,), options.reads), (contigs, (300, 500), options.contigs))
    for path, lengths in ((path, lengths) for path, lengths, records in files if records):
        packed = path.with_suffix(".fa.gz")
        with packed.open("wb") as output:
            subprocess.run(["gzip", "-6", "--stdout", str(path)], stdout=output, check=True)
        for chunk_length in lengths:
            for file in (path, packed):
                for cores in (1, 2):
                    rows.append(row(file, path, chunk_length, cores, options.repeats))
                    show(rows[-1], len(rows) == 1)
    return rows


def row(path: Path, plain: Path, chunk_length: int, cores: int, repeats: int) -> dict[str, object]:
    """One line of the table."""
    index = path.parent / "index"
    count = PEER_RECORDS[plain.stem]
    peer, early, ours, parts, command = in_turn(
        repeats,
        (1, "peer", plain, chunk_length, count, ""),
        (1, "peer", plain, chunk_length, count, "early"),
        (cores, "index", path, chunk_length, index),
        (1, "translate", path, chunk_length),
        (cores, "command", path, chunk_length, index),
    )
    floor = measured(cores, repeats, "floor", path, int(ours["output_bytes"]), path.parent / "out")
    chunks = ours["chunks"]
    text = parts["text_bytes"]
    return {
        "file": path.name,
        "chunk_length": chunk_length,
        "cores": cores,
        "chunks": int(chunks),
        "frames": int(ours["frames"]),
        "text_gb": text / 1e9,
        "output_gb": ours["output_bytes"] / 1e9,
        "peer_translate_chunks_per_s": peer["chunks"] / peer["translate_s"],
        "peer_chunks_per_s": peer["chunks"] / peer["whole_s"],
        "translate_chunks_per_s": chunks / parts["translate_s"],
        "translate_gb_per_s": text / parts["translate_s"] / 1e9,
        "translate_over_peer": chunks / parts["translate_s"] * peer["translate_s"] / peer["chunks"],
        "translate_over_early_peer": chunks
        / parts["translate_s"]
        * early["translate_s"]
        / peer["chunks"],
        "index_s": ours["wall_s"],
        "index_chunks_per_s": chunks / ours["wall_s"],
        "index_gb_per_s": text / ours["wall_s"] / 1e9,
        "index_over_peer": chunks / ours["wall_s"] * peer["whole_s"] / peer["chunks"],
        "index_over_early_peer": chunks / ours["wall_s"] * early["whole_s"] / peer["chunks"],
        "again_s": ours["again_wall_s"],
        "again_over_peer": chunks / ours["again_wall_s"] * peer["whole_s"] / peer["chunks"],
        "index_cpu_s": ours["cpu_s"],
        "index_over_peer_cpu": chunks / ours["cpu_s"] * peer["cpu_s"] / peer["chunks"],
        "index_over_early_peer_cpu": chunks / ours["cpu_s"] * early["cpu_s"] / peer["chunks"],
        "floor_s": floor["wall_s"],
        "index_over_floor": ours["wall_s"] / floor["wall_s"],
        "command_s": command["wall_s"],
        "command_over_peer": chunks / command["wall_s"] * peer["whole_s"] / peer["chunks"],
        "peak_rss_mb": command["peak_rss_mb"],
    }


def stages(options: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """Where the time of an index of reads goes, on one core, one stage after another."""
    path = folder / "reads.fa"
    simulate(path, options.reads, READ_LENGTH)
    found = measured(1, options.repeats, "stages", path, folder / "index")
    rows: list[dict[str, object]] = [
        {"stage": stage, "seconds": seconds} for stage, seconds in found.items()
    ]
    for number, line in enumerate(rows):
        show(line, number == 0)
    return rows


def limits(options: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """What an index of reads cannot do without, on one core, each by a program of its own."""
    path, tables = folder / "reads.fa", folder / "tables"
    simulate(path, options.reads, READ_LENGTH)
    grown = int(measure(1, "index", str(path), "300", str(tables), "keep")["grown"])
    hashed = sum((tables / name).stat().st_size for name in SEQUENCE_TABLES)
    peer, ours, read, hashing, touching, touching_all, writing = in_turn(
        options.repeats,
        (1, "peer", path, 300, PEER_RECORDS["reads"], ""),
        (1, "index", path, 300, folder / "index"),
        (1, "reading", path),
        (1, "hashing", path.stat().st_size + hashed),
        (1, "touching", hashed),
        (1, "touching", grown),
        (1, "writing", tables, folder / "out"),
    )
    parts = {
        "read the file": read,
        "hash it and the sequence tables": hashing,
        "touch memory for the sequences": touching,
        "write the tables": writing,
    }
    sums = {key: sum(part[key] for part in parts.values()) for key in read}
    again = {"wall_s": ours["again_wall_s"], "cpu_s": ours["again_cpu_s"]}
    found = {
        **parts,
        "all of these": sums,
        "touch as much memory as an index does": touching_all,
        "index": ours,
        "index again": again,
    }
    rows: list[dict[str, object]] = []
    for what, took in found.items():
        over = {
            column: options.reads / took[key] * peer[of_peer] / peer["chunks"]
            for column, key, of_peer in (
                ("over_peer", "wall_s", "whole_s"),
                ("over_peer_cpu", "cpu_s", "cpu_s"),
            )
        }
        line = {"what": what, "wall_s": took["wall_s"], "cpu_s": took["cpu_s"], **over}
        rows.append(line)
        show(line, len(rows) == 1)
    return rows


def scaling(options: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """The whole command from 10 k to 6 M reads, all cores."""
    rows: list[dict[str, object]] = []
    cores = len(os.sched_getaffinity(0))
    for reads in (10_000, 100_000, 1_000_000, 3_000_000, 6_000_000):
        path = folder / "reads.fa"
        simulate(path, reads, READ_LENGTH)
        ours = measured(cores, 1, "index", path, 300, folder / "index")
        command = measured(cores, 1, "command", path, 300, folder / "index")
        rows.append(
            {
                "reads": reads,
                "cores": cores,
                "frames": int(ours["frames"]),
                "index_s": ours["wall_s"],
                "microseconds_per_read": ours["wall_s"] / reads * 1e6,
                "cpu_microseconds_per_read": ours["cpu_s"] / reads * 1e6,
                "command_s": command["wall_s"],
                "peak_rss_mb": command["peak_rss_mb"],
            }
        )
        show(rows[-1], len(rows) == 1)
    return rows


def measured(cores: int, repeats: int, what: str, *arguments: object) -> dict[str, float]:
    """Medians of a measurement in processes of their own, on the first `cores` cores."""
    return in_turn(repeats, (cores, what, *arguments))[0]


def in_turn(repeats: int, *calls: tuple[object, ...]) -> list[dict[str, float]]:
    """Medians of several measurements (cores, what, arguments), which take turns."""
    results: list[list[dict[str, float]]] = [[] for _ in calls]
    for _ in range(repeats):
        for (cores, *call), found in zip(calls, results, strict=True):
            found.append(measure(int(str(cores)), *map(str, call)))
    return [
        {key: statistics.median(result[key] for result in found) for key in found[0]}
        for found in results
    ]


def measure(cores: int, *call: str) -> dict[str, float]:
    """One measurement in a process of its own, on the first `cores` cores."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    command = [sys.executable, __file__, "--measure"]
    subprocess.run(
        [*command, "touching", str(MEMORY_IN_PLACE)], stdout=subprocess.DEVNULL, check=True
    )
    done = subprocess.run(
        [*command, *call],
        stdout=subprocess.PIPE,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure_index(path: str, chunk_length: str, directory: str, keep: str = "") -> dict[str, float]:
    """`build_index` once the machine code is loaded, and once more."""
    from virnuc_assets.sequences.index import build_index

    with tempfile.TemporaryDirectory(dir=Path(directory).parent) as folder:
        warm = Path(folder) / "warm.fa"
        simulate(warm, 2000, READ_LENGTH)
        build_index(warm, Path(folder) / "index", 300, tool_version="benchmark")
    before = most_memory()
    result: dict[str, float] = {}
    for again in ("", "again_"):
        with timing() as took:
            manifest = build_index(
                Path(path), Path(directory), int(chunk_length), tool_version="benchmark"
            )
        result |= {f"{again}{key}": seconds for key, seconds in took.items()}
        result.setdefault("grown", most_memory() - before)
    output = sum(file.stat().st_size for file in Path(directory).iterdir())
    if not keep:
        shutil.rmtree(directory)
    counts = {"chunks": manifest.chunks, "frames": manifest.frames, "output_bytes": output}
    return {**result, **counts}


def most_memory() -> int:
    """The most that this process held so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure_stages(path: str, directory: str) -> dict[str, float]:
    """Seconds spent in each stage of an index, with every stage in one thread."""
    from virnuc_assets.sequences import index, index_block, runs, scan
    from virnuc_assets.sequences.input_file import OpenInput
    from virnuc_assets.store import atomic

    def inline(
        function: Callable[[object], object], items: Iterable[object], threads: int
    ) -> Iterator[object]:
        del threads
        return map(function, items)

    spent: dict[str, float] = {}
    within: list[float] = []  # for each stage under way, seconds that inner stages took

    def timed(owner: object, name: str, stage: str) -> None:
        function = getattr(owner, name)

        def call(*arguments: object, **options: object) -> object:
            began = time.perf_counter()
            within.append(0.0)
            try:
                return function(*arguments, **options)
            finally:
                took = time.perf_counter() - began
                spent[stage] = spent.get(stage, 0.0) + took - within.pop()
                if within:
                    within[-1] += took

        setattr(owner, name, call)

    for module in (scan, runs, index):
        setattr(module, "ordered_map", inline)  # noqa: B010
    timed(OpenInput, "readinto", "read and hash the file")
    timed(scan, "parse_records", "parse")
    timed(scan, "hash_ids", "hash ids")
    timed(index_block, "chunk_records", "cut into chunks")
    timed(index_block, "open_frames", "translate")
    timed(index_block, "frame_names", "name frames")
    timed(runs, "unique_longest_first", "sort and make unique")
    timed(runs, "write_sequence_table", "write sequences")
    timed(index, "append_numbered", "write records and frames")
    timed(index, "sha256_file", "hash the tables")
    timed(atomic, "_fsync", "wait for the disk")
    for _ in range(2):  # the first loads machine code and touches memory
        spent.clear()
        with timing() as took:
            index.build_index(Path(path), Path(directory), 300, tool_version="benchmark")
    shutil.rmtree(directory)
    rest = took["wall_s"] - sum(spent.values())
    return {**spent, "the rest": rest, "everything": took["wall_s"]}


def measure_translate(path: str, chunk_length: str) -> dict[str, float]:
    """Chunking and translation alone, on one thread."""
    from virnuc_assets.sequences.blocks import read_blocks
    from virnuc_assets.sequences.chunks import chunk_records, windows
    from virnuc_assets.sequences.frames import open_frames
    from virnuc_assets.sequences.input_file import open_input
    from virnuc_assets.sequences.records import parse_records

    spent = text = 0.0
    with open_input(Path(path)) as source:
        for number, block in enumerate(read_blocks(source, 1 << 24)):
            text += len(block.text)
            records = parse_records(source.path, "nucleotide", block)
            for _attempt in range(2 if number == 0 else 1):  # the first loads machine code
                began = time.perf_counter()
                chunks = chunk_records(records.offsets, int(chunk_length))
                for window in windows(chunks):
                    start, stop = chunks.start[window], chunks.stop[window]
                    letters = records.letters[start[0] : stop[-1]]
                    open_frames(letters, start - start[0], stop - start[0])
                last = time.perf_counter() - began
            spent += last
    return {"translate_s": spent, "text_bytes": text}


def measure_floor(path: str, output_bytes: str, output: str) -> dict[str, float]:
    """Reading the file through the decompressor, and writing as much as an index holds."""
    from isal import igzip

    buffer = bytearray(1 << 24)
    data = np.random.default_rng(0).bytes(1 << 24)
    began = time.perf_counter()
    with Path(path).open("rb", buffering=0) as file:
        text = igzip.IGzipFile(fileobj=file) if path.endswith(".gz") else file
        while text.readinto(buffer):
            pass
    left = int(output_bytes)
    with Path(output).open("wb", buffering=0) as written:
        while left > 0:
            left -= written.write(data[: min(left, len(data))])
        os.fsync(written.fileno())
    wall = time.perf_counter() - began
    Path(output).unlink()
    return {"wall_s": wall}


def measure_reading(path: str) -> dict[str, float]:
    """Reading a file into one buffer."""
    buffer = bytearray(1 << 20)
    with Path(path).open("rb", buffering=0) as file, timing() as took:
        while file.readinto(buffer):
            pass
    return took


def measure_hashing(size: str) -> dict[str, float]:
    """SHA-256 of so many bytes, which stay in cache."""
    data = bytes(1 << 18)
    digest = hashlib.sha256()
    with timing() as took:
        for _ in range(int(size) // len(data)):
            digest.update(data)
    return took


def measure_touching(size: str) -> dict[str, float]:
    """Writing a byte into every page of so much fresh memory."""
    with timing() as took, mmap.mmap(-1, int(size)) as memory:
        for page in range(0, int(size), mmap.PAGESIZE):
            memory[page] = 1
    return took


def measure_writing(tables: str, output: str) -> dict[str, float]:
    """Writing an index's tables from memory, encoded and synchronised as an index's are."""
    import pyarrow as pa
    import pyarrow.ipc
    import pyarrow.parquet as pq

    from virnuc_assets.sequences.folder import parquet_table
    from virnuc_assets.store.sequence_table import COLUMN, write_sequence_table

    sequences, groups = {}, {}
    for name in SEQUENCE_TABLES:
        with pa.OSFile(str(Path(tables) / name)) as opened, pa.ipc.open_file(opened) as reader:
            sequences[name] = reader.read_all()[COLUMN].chunks
    for name in ("records.parquet", "frames.parquet"):
        file = pq.ParquetFile(Path(tables) / name)
        groups[name] = [file.read_row_group(number) for number in range(file.num_row_groups)]
    with tempfile.TemporaryDirectory(dir=Path(output).parent) as folder, timing() as took:
        for name, parts in sequences.items():
            write_sequence_table(Path(folder) / name, parts)
        for name, rows in groups.items():
            repeating = [column for column in rows[0].schema.names if column == "frame"]
            with parquet_table(Path(folder) / name, rows[0].schema, repeating) as writer:
                for group in rows:
                    writer.write_table(group)
    return took


@contextmanager
def timing() -> Iterator[dict[str, float]]:
    """Yield what will hold the seconds of the block, by the clock and by the processor."""
    took: dict[str, float] = {}
    began, used = time.perf_counter(), time.process_time()
    yield took
    took.update(wall_s=time.perf_counter() - began, cpu_s=time.process_time() - used)


def measure_command(path: str, chunk_length: str, directory: str) -> dict[str, float]:
    """The command from start to end, and the most memory it held."""
    call = [sys.executable, "-m", "virnuc_assets.cli", "index", path, "--output", directory]
    began = time.perf_counter()
    subprocess.run([*call, "--chunk-length", chunk_length], check=True, stdout=sys.stderr)
    wall = time.perf_counter() - began
    shutil.rmtree(directory)
    kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {"wall_s": wall, "peak_rss_mb": kilobytes / 1000}


NCBI_BASES = "TCAG"
NCBI_CODE = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"
CODONS = {
    one + two + three: NCBI_CODE[16 * i + 4 * j + k]
    for i, one in enumerate(NCBI_BASES)
    for j, two in enumerate(NCBI_BASES)
    for k, three in enumerate(NCBI_BASES)
}


def measure_peer(path: str, chunk_length: str, records: str, early: str) -> dict[str, float]:
    """The plain implementation on a file's first records; `early`: frames are left at a stop."""
    from itertools import islice

    from Bio import SeqIO

    began, used = time.perf_counter(), time.process_time()
    spent, chunks, frames = 0.0, 0, []
    for record in islice(SeqIO.parse(path, "fasta"), int(records)):
        sequence = str(record.seq).upper()
        started = time.perf_counter()
        for number, chunk in enumerate(plain_chunks(sequence, int(chunk_length)), start=1):
            frames += plain_frames(f"{record.id}_chunk_{number}", chunk, early=bool(early))
            chunks += 1
        spent += time.perf_counter() - started
    # What is embedded once, longest first, and where each frame finds it.
    with tempfile.TemporaryDirectory() as folder:
        tables = []
        for column, name in ((1, "nucleotides"), (2, "proteins")):
            unique = sorted({frame[column] for frame in frames}, key=lambda s: (-len(s), s))
            tables.append({sequence: row for row, sequence in enumerate(unique)})
            (Path(folder) / name).write_text("".join(f"{sequence}\n" for sequence in unique))
        with (Path(folder) / "frames").open("w") as file:
            for name, nucleotides, protein in frames:
                file.write(f"{name}\t{tables[0][nucleotides]}\t{tables[1][protein]}\n")
    return {
        "whole_s": time.perf_counter() - began,
        "cpu_s": time.process_time() - used,
        "translate_s": spent,
        "chunks": chunks,
        "frames": len(frames),
    }


def plain_chunks(sequence: str, length: int) -> Iterator[str]:
    """Chunks as VirNucPro cuts them."""
    count = -(-len(sequence) // length)
    surplus = count * length - len(sequence)
    overlap = surplus // count
    wider = surplus - overlap * (count - 1)
    shift = 0
    for number in range(count):
        start = number * length - shift
        yield sequence[start : start + length]
        shift += overlap + 1 if number < wider else overlap


def plain_frames(name: str, chunk: str, *, early: bool) -> list[tuple[str, str, str]]:
    """Name, nucleotides and protein of a chunk's open frames.

    A frame is translated to its end and then looked at for a stop; `early`: left at its first.
    """
    from Bio.Seq import Seq

    found = []
    for strand, letters in (("F", chunk), ("R", str(Seq(chunk).reverse_complement()))):
        for offset in range(3):
            protein = ""
            for place in range(offset, len(letters) - 2, 3):
                protein += CODONS.get(letters[place : place + 3], "")
                if early and protein.endswith("*"):
                    break
            if protein and "*" not in protein:
                end = offset + 3 * len(protein) + 1
                found.append((f"{name}{strand}{offset + 1}", letters[offset:end], protein))
    return found


MEASURES: dict[str, Callable[..., dict[str, float]]] = {
    "index": measure_index,
    "stages": measure_stages,
    "translate": measure_translate,
    "floor": measure_floor,
    "command": measure_command,
    "reading": measure_reading,
    "hashing": measure_hashing,
    "touching": measure_touching,
    "writing": measure_writing,
    "peer": measure_peer,
}


def simulate(path: Path, records: int, length: int) -> None:
    """Random DNA, `records` of `length` letters, in lines of 80 where they are longer than 150."""
    rng = np.random.default_rng(records)
    at_once = max(1, 10_000_000 // length)
    with path.open("wb") as file:
        for first in range(0, records, at_once):
            count = min(at_once, records - first)
            for number, letters in enumerate(BASES[rng.integers(0, 4, (count, length))], first):
                text = letters.tobytes()
                if length > READ_LENGTH:
                    text = b"\n".join(text[i : i + LINE] for i in range(0, length, LINE))
                file.write(b">record_%d\n%s\n" % (number, text))


def show(row: dict[str, object], head: bool) -> None:
    """Print a line of the table, under its head the first time."""
    if head:
        print("  ".join(row))
    cells = (
        (f"{value:.3g}" if isinstance(value, float) else str(value)).rjust(len(key))
        for key, value in row.items()
    )
    print("  ".join(cells), flush=True)


def machine() -> dict[str, object]:
    """What this ran on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version()}


if __name__ == "__main__":
    main()
