-- A platform that has been in use for long: 12 pools, 300 agents, 1,000 workspaces, 10,000 tasks.

INSERT INTO agent_pool (id, name, description, kind, name_policy, created_by)
SELECT 'pool-' || n, 'pool-' || lpad(n::text, 2, '0'), 'Hosts of region ' || n, 'static', 'unique', 'admin'
FROM generate_series(1, 12) n;

-- Half of all agents are in the first pool, and every other workspace may be served by it.
INSERT INTO agent (id, pool_id, name, instance_id, secret_hash, approved, boot_id, version, os, arch, plan_limit, cpu_usage,
    mem_usage, disk_free, ip, last_seen_at)
SELECT 'agent-' || n, 'pool-' || CASE WHEN n % 2 = 0 THEN 1 ELSE 1 + n % 12 END, 'host-' || lpad(n::text, 4, '0'),
    'instance-' || n, '', true, 'b', '1.0.0', 'linux', 'amd64', 3, 0.37, 0.52, 40000000000, '10.0.0.1', now()
FROM generate_series(1, 300) n;

INSERT INTO workspace (id, name, description, execution_mode, pool_id, tags, updated_at)
SELECT 'ws-' || lpad(n::text, 16, '0'),
    (ARRAY['payments', 'checkout', 'search', 'identity', 'media', 'ledger', 'edge'])[1 + n % 7] || '-region-' || n,
    'Number ' || n || ' of what the teams run here', CASE WHEN n % 3 = 0 THEN 'local' ELSE 'agent' END,
    CASE WHEN n % 3 = 0 THEN NULL ELSE 'pool-' || 1 + n % 12 END,
    jsonb_build_object('env', (ARRAY['dev', 'staging', 'prod'])[1 + n % 3], 'team', 'team-' || n % 20),
    now() - n * interval '1 hour'
FROM generate_series(1, 1000) n;

INSERT INTO pool_workspace (pool_id, workspace_id, allowed_by)
SELECT pool_id, id, 'admin' FROM workspace WHERE pool_id IS NOT NULL
UNION SELECT 'pool-1', 'ws-' || lpad(n::text, 16, '0'), 'admin' FROM generate_series(2, 1000, 2) n;

INSERT INTO state_version (id, workspace_id, serial, lineage, sha256, size, verdict, terraform_version, resource_count, data,
    created_by)
SELECT 'sv-' || lpad(n::text, 16, '0'), 'ws-' || lpad(n::text, 16, '0'), 7, 'l', 's', 1, 'current', '1.11.4', n % 400, '',
    'ci'
FROM generate_series(1, 1000) n;

-- The newest hundred are open: they wait for a human, or for a pool whose agents are not connected.
INSERT INTO task (workspace_id, action, phase, status, outcome, execution_mode, auto_apply, message, created_by,
    bundle_digest, bundle, terraform_version, pool_id, agent_id, reason, detail, exit_code, has_changes, created_at,
    queued_at, started_at, planned_at, finished_at, fence)
SELECT 'ws-' || lpad((1 + n % 1000)::text, 16, '0'), 'plan_and_apply', CASE WHEN open THEN 'plan' ELSE 'apply' END, status,
    CASE WHEN status = 'succeeded' THEN 'applied' END, 'agent', false, 'Change ' || n || ' of the plan for the winter sale',
    (ARRAY['anna', 'ci', 'bert'])[1 + n % 3], 'd', '', '1.11.4', 'pool-' || 1 + n % 12,
    CASE WHEN status <> 'queued' THEN 'agent-' || 1 + n % 300 END,
    CASE WHEN status = 'failed' THEN 'terraform_failed' END,
    CASE WHEN status = 'failed' THEN 'Error: creating S3 bucket: BucketAlreadyExists' END,
    CASE WHEN status = 'failed' THEN 1 END, true, at, at, at + interval '2 s',
    CASE WHEN status = 'planned' THEN at + interval '9 s' END, CASE WHEN NOT open THEN at + interval '95 s' END,
    nextval('fence')
FROM (
    SELECT n, now() - (10000 - n) * interval '97 s' AS at, n > 9900 AS open,
        CASE WHEN n > 9940 THEN 'queued' WHEN n > 9900 THEN 'planned' WHEN n % 11 = 0 THEN 'failed'
             WHEN n % 13 = 0 THEN 'cancelled' ELSE 'succeeded' END AS status
    FROM generate_series(1, 10000) n
) made;

INSERT INTO plan (task_id, digest, bundle_digest, terraform_version, has_changes, summary, file, json)
SELECT id, 'd', 'd', '1.11.4', true, '{"add": 3, "change": 1, "destroy": 2}', '', '' FROM task
WHERE status = 'planned' AND pool_id IS NOT NULL;

ANALYZE;
