"""Jobs of clusters: scripts that their programs take, whatever the names in them."""

import shutil
import subprocess

import pytest

from jaxseg_xai.cli import main as cli

NAMES = ["sweep.toml", '/data/a b/it\'s "mine": $HOME #1.toml']


@pytest.mark.parametrize("name", NAMES)
def test_slurm(name, capsys, tmp_path):
    assert cli.main(["cluster", "slurm", "--sweep", name, "--workers", "64", "--gpus", "2"]) == 0
    text = capsys.readouterr().out
    assert {"#SBATCH --array=0-63", "#SBATCH --gpus-per-task=2"} <= set(text.splitlines())
    bash = shutil.which("bash")
    assert subprocess.run([bash, "-n"], input=text, text=True).returncode == 0
    # What a task runs, as the shell understands it; told to end, it is queued again.
    programs = 'srun() { printf "%s\\n" "$@"; return 75; }; scontrol() { echo "$@"; }\n'
    run = subprocess.run(
        [bash],
        input=programs + text,
        text=True,
        capture_output=True,
        env={"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"},
    )
    command = ["--ntasks=1", "jaxseg-xai", "sweep", "--config", name, "--workers", "1"]
    assert run.stdout.splitlines() == [*command, "requeue 7_3"]
    assert run.returncode == 75


@pytest.mark.parametrize("name", NAMES)
def test_kubernetes(name, capsys):
    yaml = pytest.importorskip("yaml")
    flags = ["--sweep", name, "--workers", "5", "--image", "my/image:1", "--claim", name]
    assert cli.main(["cluster", "kubernetes", *flags]) == 0
    job = yaml.safe_load(capsys.readouterr().out)
    assert (job["kind"], job["spec"]["completionMode"]) == ("Job", "Indexed")
    assert job["spec"]["completions"] == job["spec"]["parallelism"] == 5
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["jaxseg-xai", "sweep", "--config", name, "--workers", "1"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 1}
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == name
    (rule,) = job["spec"]["podFailurePolicy"]["rules"]
    assert rule == {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [75]}}


def test_what_is_missing_or_out_of_bounds(capsys):
    assert cli.main(["cluster", "kubernetes"]) == 2
    assert "image is empty" in capsys.readouterr().err
    assert cli.main(["cluster", "slurm", "--workers", "0"]) == 2
    assert "workers" in capsys.readouterr().err
