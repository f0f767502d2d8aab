"""A real Slurm of two nodes on this machine, for tests: munge, slurmctld, and a slurmd in each of two virtual nodes.

A node is a set of Linux namespaces for host name, processes, shared memory and mounts, with a network card on a bridge
without other connections. For Slurm and MPI the two nodes are different machines that share a file system. The cluster
needs root, Linux and Debian's packages (`PACKAGES`), but no systemd, and writes only to its folder.

    python tests/slurm/cluster.py install       # installs the packages, if apt-get and root can, and MPICH
    python tests/slurm/cluster.py up            # prints the variables to export
    python tests/slurm/cluster.py crash c2      # the node loses power; `start c2` switches it on again
    python tests/slurm/cluster.py down
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import psutil

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins", "libpmix-dev", "munge", "iproute2")
# Another MPI in a separate folder, which uses PMI-2 instead of PMIx.
MPICH = "mpich==5.0.2"
MPICH_FOLDER = Path(os.environ.get("RCDP_MPICH", f"{sys.prefix}/mpich"))
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "ip", "nsenter", "unshare")
NODES = ("c1", "c2")
FOLDER = Path("/var/tmp/rcdp-slurm")
NETWORK = "10.91.7"
BRIDGE = "rcdp-bridge"
CONTROLLER = f"{NETWORK}.254"
# A small disk on all nodes, which a test can fill.
SMALL_DISK_MIB = 16

# Times are short, because tests wait for them: a lost node is noticed after SlurmdTimeout, and a requeued job waits
# for cred_expire. A job in `main` is preempted by one in `urgent` after GraceTime.
SLURM_CONF = """
ClusterName=rcdp
SlurmctldHost={host}({controller})
SlurmctldPort=16917
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket/munge,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
TmpFS={folder}/tmp/%n
MailProg=/bin/true
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
JobRequeue=1
EnforcePartLimits=ALL
PropagateResourceLimits=NONE
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MinJobAge=3600
SlurmctldTimeout=30
SlurmdTimeout=8
InactiveLimit=0
KillWait=5
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
GresTypes=gpu
NodeName=DEFAULT CPUs=4 RealMemory=4096 Gres=gpu:2 State=UNKNOWN
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=60
PartitionName=urgent Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""

# Process 1 of a virtual node: when it is killed, the kernel kills all processes of the node, like a power failure.
# Files of slurmd remain, including the PMIx sockets of the lost step.
NODE = """
set -eu
folder=$1 node=$2
hostname "$node"
mount --bind "$folder/hosts" /etc/hosts
mount -t tmpfs tmpfs /dev/shm
mount --bind "$folder/boot-$node" /proc/sys/kernel/random/boot_id
slurmd -D -N "$node" -f "$folder/slurm.conf" &
wait
"""


def missing() -> str:
    """Return why this machine cannot start a cluster; empty if it can."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "a local Slurm needs Linux and root (for its nodes' namespaces)"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"a local Slurm needs {', '.join(absent)}: apt-get install --no-install-recommends {' '.join(PACKAGES)}"
    # srun needs a configuration even without a cluster.
    with tempfile.NamedTemporaryFile("w") as conf:
        conf.write("ClusterName=none\nSlurmctldHost=localhost\n")
        conf.flush()
        speaks = run("env", f"SLURM_CONF={conf.name}", "srun", "--mpi=list", check=False)
    if "pmix" not in f"{speaks.stdout}{speaks.stderr}".split():
        return "this machine's Slurm does not speak PMIx: apt-get install libpmix-dev, or see srun --mpi=list"
    probe = run("unshare", "--uts", "--ipc", "--mount", "--pid", "--net", "--fork", "--mount-proc", "true", check=False)
    return f"this machine lets root make no namespaces: {probe.stderr.strip()}" if probe.returncode else ""


def install() -> int:
    """Install missing packages if possible; return 0 if a cluster can be started, and otherwise print why not."""
    if any(shutil.which(name) is None for name in PROGRAMS) and os.geteuid() == 0 and shutil.which("apt-get"):
        # Packages start their daemons during installation, which policy-rc.d prevents.
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120"]
        for command in (["update"], ["install", "--no-install-recommends", *PACKAGES]):
            if subprocess.run([*apt, *command], env=environment, stdout=subprocess.DEVNULL).returncode:
                break
    if not (MPICH_FOLDER / "lib").exists():
        pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--prefix", str(MPICH_FOLDER), MPICH]
        if subprocess.run(pip).returncode:
            print(f"{MPICH} cannot be installed: the test of srun --mpi=pmi2 is left out", file=sys.stderr)
    reason = missing()
    if reason:
        print(f"no Slurm here: {reason}", file=sys.stderr)
    return int(bool(reason))


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command; the error of a failed command includes its output."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: code {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class Cluster:
    """The cluster in one folder.

    Parameters
    ----------
    folder : Path
        Configuration, keys, logs and state; removed by `down`.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self.folder = folder

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    @property
    def small_disk(self) -> Path:
        return self.folder / "small"

    def up(self) -> None:
        """Start everything and wait until both nodes accept jobs; first remove the remains of a killed cluster."""
        self.down()
        self._write_files()
        os.environ["SLURM_CONF"] = str(self.conf)
        self._connect()
        munge = self.folder / "munge"
        run(
            "munged", f"--key-file={munge}/key", f"--socket={munge}/socket/munge", f"--seed-file={munge}/seed",
            f"--pid-file={self.folder}/run/munged.pid", f"--log-file={self.folder}/log/munged.log", "--num-threads=2",
        )  # fmt: skip
        self._spawn("slurmctld", ["slurmctld", "-D", "-f", str(self.conf)])
        for node in NODES:
            self.start(node)
        self.wait_for(lambda: self._idle() == len(NODES), "the nodes to come up")

    def down(self) -> None:
        """Stop everything and remove it."""
        for node in NODES:
            self.crash(node)
        for name in ("slurmctld", "munged"):
            self._stop(name)
        # The network may exist even if the folder was removed.
        for node in NODES:
            run("ip", "netns", "delete", f"rcdp-{node}", check=False)
        run("ip", "link", "delete", BRIDGE, check=False)
        if self.folder.exists():
            run("umount", self.small_disk, check=False)
            shutil.rmtree(self.folder)

    def start(self, node: str) -> None:
        """Switch a node on."""
        self._spawn(
            node,
            [
                "nsenter", f"--net=/run/netns/rcdp-{node}", "unshare", "--uts", "--ipc", "--mount", "--pid", "--fork",
                "--kill-child", "--mount-proc", "bash", "-c", NODE, "node", str(self.folder), node,
            ],
        )  # fmt: skip

    def crash(self, node: str) -> None:
        """Kill all processes of a node at once, like a power failure."""
        process = self._process(node)
        if process is not None:
            # With --kill-child the kernel ends the node together with its parent.
            process.kill()
            process.wait(10)
            (self.folder / "run" / f"{node}.pid").unlink()

    def wait_for(self, happened: Callable[[], object], what: str, seconds: float = 30) -> None:
        """Wait until a condition holds; on a timeout, show the logs of the daemons."""
        until = time.monotonic() + seconds
        while not happened():
            if time.monotonic() > until:
                logs = "\n".join(f"== {path}\n{path.read_text()[-2000:]}" for path in self.folder.glob("log/*"))
                raise RuntimeError(f"waited {seconds:.0f} s in vain for {what}\n{logs}")
            time.sleep(0.2)

    def _write_files(self) -> None:
        for name in (
            "state",
            "log",
            "run",
            "munge/socket",
            *(f"{kind}/{node}" for kind in ("spool", "tmp") for node in NODES),
        ):
            (self.folder / name).mkdir(parents=True)
        # Mounted before the nodes start, so that they see it.
        self.small_disk.mkdir()
        run("mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MIB}m", "tmpfs", self.small_disk)
        # Clients of munged must be able to enter both folders; only root can read the key.
        (self.folder / "munge").chmod(0o711)
        key = self.folder / "munge/key"
        key.touch(0o600)
        key.write_bytes(os.urandom(1024))
        lines = [f"NodeName={node} NodeAddr={address(node)} Port={17100 + at}" for at, node in enumerate(NODES)]
        host = os.uname().nodename.partition(".")[0]
        content = SLURM_CONF.format(host=host, controller=CONTROLLER, folder=self.folder, nodes="\n".join(lines))
        self.conf.write_text(content)
        # Files in place of devices: Slurm allocates two per node, and nobody opens them.
        for number in (0, 1):
            os.mknod(self.folder / f"gpu{number}", 0o020666, os.makedev(1, 3))
        (self.folder / "gres.conf").write_text(f"NodeName=c[1-2] Name=gpu File={self.folder}/gpu[0-1]\n")
        names = "".join(f"{address(node)} {node}\n" for node in NODES)
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost\n{CONTROLLER} {host}\n{names}")
        for node in NODES:
            # Some MPI libraries treat an equal boot_id as the same machine and try shared memory.
            (self.folder / f"boot-{node}").write_text(f"{uuid4()}\n")

    def _connect(self) -> None:
        """Create the network: a bridge without other connections, and a network card of each node."""
        run("ip", "link", "add", BRIDGE, "type", "bridge")
        run("ip", "address", "add", f"{CONTROLLER}/24", "dev", BRIDGE)
        run("ip", "link", "set", BRIDGE, "up")
        for node in NODES:
            space = f"rcdp-{node}"
            run("ip", "netns", "add", space)
            run("ip", "link", "add", space, "type", "veth", "peer", "name", "eth0", "netns", space)
            run("ip", "link", "set", space, "master", BRIDGE, "up")
            run("ip", "-n", space, "address", "add", f"{address(node)}/24", "dev", "eth0")
            run("ip", "-n", space, "link", "set", "eth0", "up")
            run("ip", "-n", space, "link", "set", "lo", "up")

    def _idle(self) -> int:
        return run("sinfo", "-h", "-N", "-p", "main", "-o", "%T", check=False).stdout.split().count("idle")

    def _spawn(self, name: str, command: list[str]) -> None:
        with open(self.folder / "log" / f"{name}.out", "a") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        (self.folder / "run" / f"{name}.pid").write_text(str(process.pid))

    def _process(self, name: str) -> psutil.Process | None:
        """Return a daemon of this cluster; None if it does not run. Its process number may have been reused."""
        try:
            process = psutil.Process(int((self.folder / "run" / f"{name}.pid").read_text()))
            return process if str(self.folder) in " ".join(process.cmdline()) else None
        except (FileNotFoundError, psutil.NoSuchProcess):
            return None

    def _stop(self, name: str) -> None:
        process = self._process(name)
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except psutil.TimeoutExpired:
            process.kill()


def address(node: str) -> str:
    """Return the network address of a node."""
    return f"{NETWORK}.{1 + NODES.index(node)}"


def main(arguments: list[str]) -> int:
    cluster = Cluster()
    match arguments:
        case ["up"]:
            if missing():
                print(missing(), file=sys.stderr)
                return 1
            cluster.up()
            print(f"export SLURM_CONF={cluster.conf}")
        case ["down"]:
            cluster.down()
        case ["crash" | "start" as action, node] if node in NODES:
            getattr(cluster, action)(node)
        case ["install"]:
            return install()
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
