"""`jaxseg-xai cluster slurm | kubernetes`: jobs that start a worker of a sweep for each device."""

import dataclasses
import json
import shlex

from jaxseg_xai.cli.command import EXIT_OK, Command
from jaxseg_xai.core.errors import ConfigError
from jaxseg_xai.core.fields import check, setting

_SLURM = """\
#!/usr/bin/env bash
# A worker of one sweep in each task of an array: sbatch this file; more of them may come later.
#SBATCH --job-name=jaxseg-xai
#SBATCH --array=0-{last}
#SBATCH --gpus-per-task={gpus}
#SBATCH --requeue
#SBATCH --signal=TERM@60
srun --ntasks=1 {command}
code=$?
# 75: told to end, at the limit of time for example. The same command continues.
if [ "$code" -eq 75 ]; then
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
fi
exit "$code"
"""

_KUBERNETES = """\
# A worker of one sweep in each pod: kubectl apply -f this file.
apiVersion: batch/v1
kind: Job
metadata:
  name: jaxseg-xai
spec:
  completionMode: Indexed
  completions: {workers}
  parallelism: {workers}
  backoffLimitPerIndex: 3
  podFailurePolicy:
    rules:
      # 75: told to end. The same command continues.
      - action: Ignore
        onExitCodes: {{operator: In, values: [75]}}
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 30
      containers:
        - name: worker
          image: {image}
          command: {command}
          workingDir: {mount}
          resources:
            limits: {{nvidia.com/gpu: {gpus}}}
          volumeMounts:
            - {{name: sweep, mountPath: {mount}}}
      volumes:
        - name: sweep
          persistentVolumeClaim: {{claimName: {claim}}}
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SlurmConfig:
    """Print a job array of SLURM, each of whose tasks is a worker of one sweep.

    Attributes:
      sweep: its configuration, as the tasks see it; `out` in it is on a disk that they share, or
        in an object store.
      workers: tasks at a time.
      gpus: of a task; 0 on CPUs.
    """

    sweep: str = "sweep.toml"
    workers: int = setting(8, at_least=1)
    gpus: int = setting(1, at_least=0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class KubernetesConfig(SlurmConfig):
    """Print an Indexed Job of Kubernetes, each of whose pods is a worker of one sweep.

    Attributes:
      image: container image with jaxseg-xai.
      claim: of a volume that many pods may write, with the configuration and the images on it.
      mount: where the pods see it; paths in the configuration start from there.
    """

    image: str = ""
    claim: str = "sweep"
    mount: str = "/sweep"


def slurm(config: SlurmConfig) -> str:
    """The script."""
    return _SLURM.format(
        last=config.workers - 1, gpus=config.gpus, command=shlex.join(_command(config))
    )


def kubernetes(config: KubernetesConfig) -> str:
    """The YAML; strings in it are quoted as in JSON, which YAML takes."""
    if not config.image:
        raise ConfigError("image is empty: name a container image with jaxseg-xai")
    quoted = {name: json.dumps(getattr(config, name)) for name in ("image", "mount", "claim")}
    return _KUBERNETES.format(
        workers=config.workers,
        gpus=config.gpus,
        command=json.dumps(_command(config)),
        **quoted,
    )


def _command(config: SlurmConfig) -> list[str]:
    return ["jaxseg-xai", "sweep", "--config", config.sweep, "--workers", "1"]


def _print_slurm(config: SlurmConfig, command: str) -> int:
    del command
    check(config)
    print(slurm(config), end="")
    return EXIT_OK


def _print_kubernetes(config: KubernetesConfig, command: str) -> int:
    del command
    check(config)
    print(kubernetes(config), end="")
    return EXIT_OK


SLURM = Command(
    config=SlurmConfig,
    run=_print_slurm,
    example="jaxseg-xai cluster slurm --sweep sweep.toml --workers 64",
    computes=lambda config: False,
)
KUBERNETES = Command(
    config=KubernetesConfig,
    run=_print_kubernetes,
    example="jaxseg-xai cluster kubernetes --sweep sweep.toml --workers 64 --image my/image:1",
    computes=lambda config: False,
)
