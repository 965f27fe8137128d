# A Slurm of two nodes, n0 and n1, on this machine, for one command: slurm.sh DIR COMMAND... As root, in namespaces of its
# own (unshare --mount --net --pid --fork --kill-child --mount-proc), with which everything ends. Files go to DIR.
set -eu
D=$1
shift
ip link set lo up
ip addr add 10.99.0.1/32 dev lo
HOST=$(hostname)
printf '127.0.0.1 localhost\n10.99.0.1 %s n0 n1\n' "$HOST" >"$D/hosts"
mount --bind "$D/hosts" /etc/hosts
mkdir -p "$D/state"
head -c 32 /dev/urandom >"$D/munge.key"
chmod 400 "$D/munge.key"
cat >"$D/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$HOST
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$D/munge.socket
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
StateSaveLocation=$D/state
SlurmdSpoolDir=$D/spool-%n
SlurmctldPidFile=$D/slurmctld.pid
SlurmdPidFile=$D/slurmd-%n.pid
SlurmctldLogFile=$D/slurmctld.log
SlurmdLogFile=$D/slurmd-%n.log
SlurmdParameters=config_overrides
NodeName=n0 NodeHostname=$HOST NodeAddr=10.99.0.1 Port=17001 CPUs=2 RealMemory=1000
NodeName=n1 NodeHostname=$HOST NodeAddr=10.99.0.1 Port=17002 CPUs=2 RealMemory=1000
PartitionName=all Nodes=n0,n1 Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$D/slurm.conf"
munged --force --foreground --key-file "$D/munge.key" --socket "$D/munge.socket" --pid-file "$D/munged.pid" \
  --log-file "$D/munged.log" --seed-file "$D/munge.seed" --num-threads 1 2>"$D/munged.err" &
until [ -S "$D/munge.socket" ]; do sleep 0.1; done
slurmctld -D 2>"$D/slurmctld.err" &
slurmd -D -N n0 2>"$D/slurmd-n0.err" &
slurmd -D -N n1 2>"$D/slurmd-n1.err" &
until [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = 2 ]; do sleep 0.2; done
"$@"
