"""What Prometheus reads at `/metrics`. Names are stable: dashboards and alerts of sites depend on them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()

GPUS = Gauge("gpuferry_gpus", "GPUs of the pool", ["state"], registry=REGISTRY)
MEMORY = Gauge("gpuferry_gpu_memory_bytes", "Memory of the pool's GPUs", ["kind"], registry=REGISTRY)
SLICES = Gauge("gpuferry_slices", "Slices that are reserved", registry=REGISTRY)
SERVERS = Gauge("gpuferry_servers", "GPU servers", ["state"], registry=REGISTRY)
LEASES = Gauge("gpuferry_leases", "Leases that are not over", ["state"], registry=REGISTRY)
QUEUE_OLDEST = Gauge("gpuferry_queue_oldest_seconds", "Age of the oldest waiting request", registry=REGISTRY)
SESSIONS = Gauge("gpuferry_sessions", "Live sessions of programs", registry=REGISTRY)
LEADER = Gauge("gpuferry_leader", "1 in the appliance process that decides", registry=REGISTRY)
EPOCH = Gauge("gpuferry_epoch", "The term of the deciding process", registry=REGISTRY)

REQUESTS = Counter("gpuferry_lease_requests", "Requests for leases", ["outcome"], registry=REGISTRY)
ENDS = Counter("gpuferry_lease_ends", "Leases that ended", registry=REGISTRY)
DECISION = Histogram(
    "gpuferry_decision_seconds",
    "From a request's arrival to the committed decision",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
    registry=REGISTRY,
)
BATCH = Histogram(
    "gpuferry_transaction_seconds",
    "A transaction of decisions",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1, 5),
    registry=REGISTRY,
)
WAITED = Histogram(
    "gpuferry_queue_wait_seconds",
    "From a request to its grant",
    buckets=(0.01, 0.1, 1, 10, 60, 300, 1800, 7200, 43200),
    registry=REGISTRY,
)
MESSAGES = Counter("gpuferry_control_messages", "Messages on the control bus", ["kind"], registry=REGISTRY)
REFUSED = Gauge("gpuferry_control_refused", "Handshakes and messages of unknown or revoked keys", registry=REGISTRY)
CALLS = Counter("gpuferry_forwarded_calls", "CUDA calls that sessions forwarded", registry=REGISTRY)
BYTES = Counter("gpuferry_forwarded_bytes", "Bytes that sessions carried", registry=REGISTRY)
ROUND_TRIPS = Counter("gpuferry_blocking_round_trips", "Times a program waited for its GPU server", registry=REGISTRY)
HEALTH = Gauge("gpuferry_health_checks", "Health checks by their result", ["state"], registry=REGISTRY)
HTTP = Counter("gpuferry_http_requests", "Requests to the REST API", ["method", "status"], registry=REGISTRY)
DATABASE = Counter("gpuferry_database_failures", "Transactions that failed", ["why"], registry=REGISTRY)
