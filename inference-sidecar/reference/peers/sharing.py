"""The model server and PostgreSQL on the same cores: each alone, and both at once."""

import os
import re
import statistics
import subprocess
import tempfile
import time

import clients

DATABASE = "salesai_pgbench"
SCALE = 10
# Read-only transactions, which want nothing but processors; two clients could fill two of them.
LOAD = ["-n", "-S", "-c", "2", "-j", "1", "-P", "1", "-T", "600"]
TALK = "--concurrency 4 --requests 12 --prompt-tokens 64 --output-tokens 160"


class Postgres:
    """A database for pgbench on the server that libpq's environment names; gone at the end."""

    def __init__(self, bin_dir):
        self.bin_dir = bin_dir

    def run(self, program, *arguments):
        subprocess.run([self.bin_dir / program, *arguments], check=True, capture_output=True)

    def __enter__(self):
        self.run("dropdb", "--if-exists", DATABASE)
        self.run("createdb", DATABASE)
        self.run("pgbench", "-i", "-q", "-s", str(SCALE), DATABASE)
        return self

    def __exit__(self, *_):
        self.run("dropdb", DATABASE)

    def transactions(self, while_running):
        """Transactions per second while something else runs, and what that returned."""
        with tempfile.TemporaryFile("w+") as log:
            load = subprocess.Popen([self.bin_dir / "pgbench", *LOAD, DATABASE], stdout=log, stderr=log)
            try:
                # Connected and warm.
                time.sleep(2)
                log.seek(0, os.SEEK_END)
                start = log.tell()
                result = while_running()
                if load.poll() is not None:
                    log.seek(0)
                    raise RuntimeError(f"pgbench ended early: {log.read()}")
            finally:
                load.terminate()
                load.wait()
            log.seek(start)
            # The last second has an end of its own.
            rates = [float(rate) for rate in re.findall(r"progress: .*?, ([0-9.]+) tps", log.read())]
        return statistics.mean(rates), result


def figures(binary, model, threads, postgres):
    """Of one fresh server with so many threads."""
    config = f'threads = {threads}\n[[language_model]]\nname = "m"\npath = "{model}"\n'
    note = f", {threads} compute threads" if threads > 1 else ", 1 compute thread"
    with clients.sidecar(binary, config) as path:

        def talk():
            return clients.ask(binary, path, TALK)["completion_tokens_per_second"]

        clients.ask(binary, path, clients.WARM_UP)
        alone = talk()
        beside, tokens = postgres.transactions(talk)
    undisturbed, _ = postgres.transactions(lambda: time.sleep(5))
    return {
        f"pgbench alone, transactions/s{note}": undisturbed,
        f"pgbench beside the model{note}": beside,
        f"model alone, tokens/s{note}": alone,
        f"model beside pgbench{note}": tokens,
    }
