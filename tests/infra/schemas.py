"""What of Kubernetes, KubeRay and Rook the files of infra/ use, unknown fields forbidden.

Made by reading the public definitions (KubeRay's and Rook's of 2026-08, Kubernetes' own): a field
that is not listed here is a slip, or belongs here after a look at the definition.
"""

STR, INT, BOOL = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|Ti)?$"}
PORT = {"type": ["integer", "string"]}
WORDS = {"type": "object", "additionalProperties": STR}
NAME = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}


def of(required="", **fields):
    """Return the schema of an object with these fields and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": fields,
        "required": required.split(),
    }


def many(item):
    return {"type": "array", "items": item, "minItems": 1}


def one_of(*words):
    return {"enum": list(words)}


SELECTOR = of(matchLabels=WORDS)
NAMED = of("name", name=NAME)
KEY_REF = of("name key", name=NAME, key=STR)
AMOUNTS = {"type": "object", "additionalProperties": QUANTITY}
RESOURCES = of("requests limits", requests=AMOUNTS, limits=AMOUNTS)
CAPABILITIES = of("drop", drop={"const": ["ALL"]})
CONTAINER_SECURITY = of(
    "allowPrivilegeEscalation capabilities",
    allowPrivilegeEscalation={"const": False},
    capabilities=CAPABILITIES,
    readOnlyRootFilesystem=BOOL,
    runAsNonRoot=BOOL,
)
PROBE = of(
    httpGet=of("path port", path=STR, port=PORT, httpHeaders=many(of(name=STR, value=STR))),
    tcpSocket=of("port", port=PORT),
    periodSeconds=INT,
    failureThreshold=INT,
)
CONTAINER = of(
    "name image resources securityContext",
    name=NAME,
    image={"type": "string", "pattern": r"^[^:]+:[^:]+$", "not": {"pattern": ":latest$"}},
    command=many(STR),
    args=many(STR),
    env=many(of("name", name=STR, value=STR, valueFrom=of("secretKeyRef", secretKeyRef=KEY_REF))),
    envFrom=many(of(configMapRef=NAMED, secretRef=NAMED)),
    ports=many(of("containerPort name", containerPort=INT, name=NAME)),
    startupProbe=PROBE,
    livenessProbe=PROBE,
    readinessProbe=PROBE,
    securityContext=CONTAINER_SECURITY,
    resources=RESOURCES,
    volumeMounts=many(of("name mountPath", name=NAME, mountPath=STR)),
)
POD = of(
    "containers securityContext nodeSelector automountServiceAccountToken",
    restartPolicy={"const": "Never"},
    automountServiceAccountToken=BOOL,
    terminationGracePeriodSeconds=INT,
    nodeSelector=WORDS,
    tolerations=many(of("key operator", key=STR, operator=STR, effect=STR)),
    securityContext=of(
        "runAsNonRoot runAsUser seccompProfile",
        runAsNonRoot={"const": True},
        runAsUser={"type": "integer", "minimum": 1},
        runAsGroup=INT,
        fsGroup=INT,
        seccompProfile=of("type", type={"const": "RuntimeDefault"}),
    ),
    containers=many(CONTAINER),
    volumes=many(
        of(
            "name",
            name=NAME,
            emptyDir=of("sizeLimit", medium={"const": "Memory"}, sizeLimit=QUANTITY),
            persistentVolumeClaim=of("claimName", claimName=NAME),
        )
    ),
)
TEMPLATE = of("metadata spec", metadata=of("labels", labels=WORDS), spec=POD)

GROUP = of(
    "groupName replicas minReplicas maxReplicas rayStartParams template",
    groupName=NAME,
    replicas=INT,
    minReplicas=INT,
    maxReplicas=INT,
    labels=WORDS,
    rayStartParams=WORDS,
    template=TEMPLATE,
)
RAY_CLUSTER = of(
    "rayVersion authOptions enableInTreeAutoscaling autoscalerOptions gcsFaultToleranceOptions "
    "headGroupSpec workerGroupSpecs",
    rayVersion=STR,
    authOptions=of("mode secretName", mode={"const": "token"}, secretName=NAME),
    enableInTreeAutoscaling={"const": True},
    autoscalerOptions=of(
        "version",
        version={"const": "v2"},
        upscalingMode=one_of("Default", "Aggressive", "Conservative"),
        idleTimeoutSeconds=INT,
        securityContext=CONTAINER_SECURITY,
        resources=RESOURCES,
    ),
    gcsFaultToleranceOptions=of(
        "redisAddress redisPassword",
        redisAddress=STR,
        redisPassword=of("valueFrom", valueFrom=of("secretKeyRef", secretKeyRef=KEY_REF)),
    ),
    headGroupSpec=of(
        "rayStartParams template",
        serviceType={"const": "ClusterIP"},
        rayStartParams=WORDS,
        template=TEMPLATE,
    ),
    workerGroupSpecs=many(GROUP),
)
RAY_JOB = of(
    "entrypoint submissionMode backoffLimit shutdownAfterJobFinishes rayClusterSpec",
    entrypoint=STR,
    submissionMode=one_of("K8sJobMode", "HTTPMode", "SidecarMode"),
    backoffLimit=INT,
    activeDeadlineSeconds=INT,
    shutdownAfterJobFinishes={"const": True},
    ttlSecondsAfterFinished=INT,
    rayClusterSpec=RAY_CLUSTER,
)
PEER = of(
    podSelector=SELECTOR,
    namespaceSelector=SELECTOR,
    ipBlock=of("cidr", cidr=STR, **{"except": many(STR)}),
)
PORTS = many(of("port protocol", port=INT, protocol=one_of("TCP", "UDP")))
NETWORK = of(
    "podSelector policyTypes",
    podSelector=SELECTOR,
    policyTypes=many(one_of("Ingress", "Egress")),
    ingress=many(of("from", ports=PORTS, **{"from": many(PEER)})),
    egress=many(of("to", to=many(PEER), ports=PORTS)),
)
POOL = of(
    "replicated",
    failureDomain=STR,
    replicated=of("size", size={"type": "integer", "minimum": 3}, requireSafeReplicaSize=BOOL),
)
SPECS = {
    ("ray.io/v1", "RayCluster"): RAY_CLUSTER,
    ("ray.io/v1", "RayJob"): RAY_JOB,
    ("networking.k8s.io/v1", "NetworkPolicy"): NETWORK,
    ("v1", "PersistentVolumeClaim"): of(
        "accessModes resources",
        accessModes=many(one_of("ReadWriteOnce")),
        resources=of("requests", requests=AMOUNTS),
    ),
    ("v1", "Service"): of(
        "selector ports", selector=WORDS, ports=many(of(name=NAME, port=INT, targetPort=PORT))
    ),
    ("apps/v1", "Deployment"): of(
        "replicas selector template",
        replicas=INT,
        strategy=of("type", type=one_of("Recreate")),
        selector=SELECTOR,
        template=TEMPLATE,
    ),
    ("ceph.rook.io/v1", "CephObjectStore"): of(
        "metadataPool dataPool gateway",
        metadataPool=POOL,
        dataPool=POOL,
        preservePoolsOnDelete=BOOL,
        gateway=of(
            "port instances",
            port=INT,
            instances=INT,
            resources=of(requests=AMOUNTS, limits=AMOUNTS),
        ),
    ),
    ("objectbucket.io/v1alpha1", "ObjectBucketClaim"): of(
        "bucketName storageClassName", bucketName=NAME, storageClassName=NAME
    ),
}
METADATA = of("name", name=NAME, namespace=NAME, labels=WORDS)
WITHOUT_SPEC = {
    ("v1", "Namespace"): of("metadata", apiVersion=STR, kind=STR, metadata=METADATA),
    ("v1", "ConfigMap"): of("metadata", apiVersion=STR, kind=STR, metadata=METADATA, data=WORDS),
    ("storage.k8s.io/v1", "StorageClass"): of(
        "metadata provisioner",
        apiVersion=STR,
        kind=STR,
        metadata=METADATA,
        provisioner=STR,
        reclaimPolicy=one_of("Retain"),
        parameters=WORDS,
    ),
}


def schema_of(document):
    """Return the schema of a document by what it says it is."""
    kind = (document["apiVersion"], document["kind"])
    if kind in WITHOUT_SPEC:
        return WITHOUT_SPEC[kind]
    return of("metadata spec", apiVersion=STR, kind=STR, metadata=METADATA, spec=SPECS[kind])
