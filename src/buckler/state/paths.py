"""Default paths of all state on this machine, below ``.buckler`` in the working directory.

Modules that read an environment variable for another path apply it themselves.
"""

from pathlib import Path

STATE = Path(".buckler")

KEYS = STATE / "keys"
API_KEYS = KEYS / "api.json"
APPROVERS = KEYS / "approvers"  # public keys of the people who approve promotions
REFUSED_PINS = STATE / "refused-pins"  # of tokens: which PIN files were refused

# The service
AUDIT_LOG = STATE / "audit/audit.jsonl"
BENTOML = STATE / "bentoml"
RELEASES = STATE / "releases"
TRAFFIC_DATABASE = STATE / "traffic/traffic.db"

# The model registry and its promotions
DOWNLOADS = STATE / "downloads"
MLFLOW_DATABASE = STATE / "mlflow.db"
MLFLOW_ARTIFACTS = STATE / "mlartifacts"
PROMOTION_LOCK = STATE / "promotion.lock"
SIGNED = STATE / "signed"  # the journals of signed records
SIGNED_HEADS = STATE / "signed-heads"  # the highest record of each model that signer or watch have seen

# Finished parts of attacks, and the progress of an interrupted training
ATTACK_JOURNAL = STATE / "attack"
DETECT_JOURNAL = STATE / "detect"
TRAINING_STATE = STATE / "training/state.npz"
DENOISER = STATE / "restoration/denoiser.npz"  # of the benchmark of restoration steps

# The watch; a job's findings are <job>.json in WATCH
WATCH = STATE / "watch"
WATCH_AUDIT_LOG = WATCH / "audit.log"
WATCH_DRIFT_REFERENCE = WATCH / "drift-reference"
WATCH_HISTORY = WATCH / "history.db"
WATCH_JOURNAL = WATCH / "attack"
WATCH_LOGS = WATCH / "logs"
WATCH_PROBE = WATCH / "probe"
WATCH_SCHEDULE = WATCH / "jobs.db"

# Processes of `make up`
MONITORING = STATE / "monitoring"
RUN = STATE / "run"
