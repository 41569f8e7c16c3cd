"""The fixed vocabulary of the estate: who owns things, and which services the three clouds sell."""

from __future__ import annotations

from dataclasses import dataclass

DEPARTMENTS: dict[str, tuple[str, tuple[str, ...]]] = {
    # department: (cost center, teams)
    "platform": ("cc-1000", ("runtime", "networking", "developer-experience", "observability", "identity")),
    "payments": ("cc-1100", ("checkout", "ledger", "fraud-models", "payouts", "disputes")),
    "data": ("cc-1200", ("ingestion", "warehouse", "streaming", "reporting")),
    "research": ("cc-1300", ("vision", "language-models", "forecasting", "simulation")),
    "marketplace": ("cc-1400", ("catalog", "pricing", "sellers", "recommendations", "reviews", "inventory")),
    "search": ("cc-1500", ("indexing", "ranking", "query-understanding")),
    "mobile": ("cc-1600", ("ios", "android", "push-messaging")),
    "logistics": ("cc-1700", ("routing", "tracking", "depots", "returns")),
    "marketing": ("cc-1800", ("campaigns", "attribution", "newsletter")),
    "support": ("cc-1900", ("helpdesk", "chat-assistant", "telephony")),
    "security": ("cc-2000", ("detection", "vault", "compliance")),
    "finance": ("cc-2100", ("billing-systems", "treasury", "planning")),
}

ENVIRONMENTS: tuple[str, ...] = ("prod", "staging", "dev", "test")

# Accounts in which most of the untagged resources live. Everything else has one account per department and
# environment.
SLOPPY_ACCOUNTS: tuple[str, ...] = ("legacy-lift", "acquired-eu", "sandbox")

CURRENCY: dict[str, str] = {"aws": "USD", "azure": "EUR", "gcp": "USD"}


@dataclass(frozen=True)
class Service:
    """One service of one cloud. ``weight``: out of 100 resources of the cloud, this many are of the service.

    ``pattern`` of resource ids: {account}, {region} and {name} stand for themselves. ``committed``: its usage
    can be covered by a commitment.
    """

    name: str
    category: str
    subcategory: str
    resource_type: str
    pattern: str
    unit: str
    weight: int
    committed: bool = False


REGIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "aws": (
        ("eu-central-1", "Europe (Frankfurt)"),
        ("eu-west-1", "Europe (Ireland)"),
        ("us-east-1", "US East (N. Virginia)"),
    ),
    "azure": (
        ("westeurope", "West Europe"),
        ("northeurope", "North Europe"),
        ("germanywestcentral", "Germany West Central"),
    ),
    "gcp": (("europe-west3", "Frankfurt"), ("europe-west1", "Belgium"), ("us-central1", "Iowa")),
}


def _arn(service: str, kind: str) -> str:
    return f"arn:aws:{service}:{{region}}:{{account}}:{kind}{{name}}"


def _arm(provider: str) -> str:
    # The provider lower-cases these ids.
    return f"/subscriptions/{{account}}/resourcegroups/rg-{{region}}/providers/{provider}/{{name}}"


def _gcp(host: str, kind: str) -> str:
    return f"//{host}.googleapis.com/projects/{{account}}/locations/{{region}}/{kind}/{{name}}"


SERVICES: dict[str, tuple[Service, ...]] = {
    "aws": (
        Service(
            "Amazon Elastic Compute Cloud",
            "Compute",
            "Virtual Machines",
            "Instance",
            _arn("ec2", "instance/i-"),
            "Hours",
            20,
            True,
        ),
        Service(
            "AWS Lambda",
            "Compute",
            "Serverless Compute",
            "Function",
            _arn("lambda", "function:"),
            "GB-Seconds",
            8,
        ),
        Service("AWS Fargate", "Compute", "Containers", "Task", _arn("ecs", "task/"), "vCPU-Hours", 4, True),
        Service(
            "Amazon Elastic Kubernetes Service",
            "Compute",
            "Containers",
            "Cluster",
            _arn("eks", "cluster/"),
            "Hours",
            4,
        ),
        Service(
            "Amazon Relational Database Service",
            "Databases",
            "Relational Databases",
            "DB instance",
            _arn("rds", "db:"),
            "Hours",
            9,
            True,
        ),
        Service(
            "Amazon DynamoDB",
            "Databases",
            "NoSQL Databases",
            "Table",
            _arn("dynamodb", "table/"),
            "Requests",
            5,
        ),
        Service(
            "Amazon ElastiCache",
            "Databases",
            "Caching",
            "Cluster",
            _arn("elasticache", "cluster:"),
            "Hours",
            3,
            True,
        ),
        Service(
            "Amazon Redshift",
            "Databases",
            "Data Warehouses",
            "Cluster",
            _arn("redshift", "cluster:"),
            "Hours",
            3,
        ),
        Service(
            "Amazon Simple Storage Service",
            "Storage",
            "Object Storage",
            "Bucket",
            "arn:aws:s3:::{name}",
            "GB-Months",
            12,
        ),
        Service(
            "Amazon Elastic File System",
            "Storage",
            "File Storage",
            "File system",
            _arn("elasticfilesystem", "file-system/fs-"),
            "GB-Months",
            2,
        ),
        Service(
            "AWS Backup",
            "Storage",
            "Backup Storage",
            "Recovery point",
            _arn("backup", "recovery-point:"),
            "GB-Months",
            2,
        ),
        Service(
            "Amazon CloudFront",
            "Networking",
            "Content Delivery",
            "Distribution",
            "arn:aws:cloudfront::{account}:distribution/{name}",
            "GB",
            3,
        ),
        Service(
            "Elastic Load Balancing",
            "Networking",
            "Application Networking",
            "Load balancer",
            _arn("elasticloadbalancing", "loadbalancer/app/"),
            "Hours",
            4,
        ),
        Service(
            "Amazon Virtual Private Cloud",
            "Networking",
            "Network Infrastructure",
            "NAT gateway",
            _arn("ec2", "natgateway/nat-"),
            "GB",
            4,
        ),
        Service(
            "Amazon Kinesis",
            "Analytics",
            "Streaming Analytics",
            "Stream",
            _arn("kinesis", "stream/"),
            "Shard-Hours",
            2,
        ),
        Service("AWS Glue", "Analytics", "Data Processing", "Job", _arn("glue", "job/"), "DPU-Hours", 3),
        Service(
            "Amazon SageMaker",
            "AI and Machine Learning",
            "Machine Learning",
            "Endpoint",
            _arn("sagemaker", "endpoint/"),
            "Hours",
            3,
        ),
        Service(
            "Amazon Bedrock",
            "AI and Machine Learning",
            "Generative AI",
            "Inference profile",
            _arn("bedrock", "application-inference-profile/"),
            "Tokens",
            2,
        ),
        Service(
            "AWS Key Management Service",
            "Security",
            "Secret Management",
            "Key",
            _arn("kms", "key/"),
            "Requests",
            2,
        ),
        Service(
            "Amazon CloudWatch",
            "Management and Governance",
            "Observability",
            "Log group",
            _arn("logs", "log-group:"),
            "GB",
            3,
        ),
        Service(
            "Amazon Simple Queue Service", "Integration", "Messaging", "Queue", _arn("sqs", ""), "Requests", 2
        ),
    ),
    "azure": (
        Service(
            "Virtual Machines",
            "Compute",
            "Virtual Machines",
            "Virtual machine",
            _arm("microsoft.compute/virtualmachines"),
            "Hours",
            20,
            True,
        ),
        Service(
            "Azure Functions",
            "Compute",
            "Serverless Compute",
            "Function app",
            _arm("microsoft.web/sites/functions"),
            "GB-Seconds",
            6,
        ),
        Service(
            "Azure Kubernetes Service",
            "Compute",
            "Containers",
            "Kubernetes service",
            _arm("microsoft.containerservice/managedclusters"),
            "Hours",
            6,
        ),
        Service(
            "Azure App Service",
            "Web",
            "Application Platforms",
            "App service plan",
            _arm("microsoft.web/serverfarms"),
            "Hours",
            6,
        ),
        Service(
            "Azure SQL Database",
            "Databases",
            "Relational Databases",
            "SQL database",
            _arm("microsoft.sql/servers/databases"),
            "vCore-Hours",
            8,
            True,
        ),
        Service(
            "Azure Cosmos DB",
            "Databases",
            "NoSQL Databases",
            "Cosmos DB account",
            _arm("microsoft.documentdb/databaseaccounts"),
            "RU-Hours",
            4,
        ),
        Service(
            "Azure Cache for Redis",
            "Databases",
            "Caching",
            "Redis cache",
            _arm("microsoft.cache/redis"),
            "Hours",
            3,
        ),
        Service(
            "Azure Synapse Analytics",
            "Analytics",
            "Analytics Platforms",
            "Synapse workspace",
            _arm("microsoft.synapse/workspaces"),
            "Hours",
            3,
        ),
        Service(
            "Azure Databricks",
            "Analytics",
            "Data Processing",
            "Databricks workspace",
            _arm("microsoft.databricks/workspaces"),
            "DBU-Hours",
            4,
        ),
        Service(
            "Event Hubs",
            "Analytics",
            "Streaming Analytics",
            "Event Hubs namespace",
            _arm("microsoft.eventhub/namespaces"),
            "Hours",
            3,
        ),
        Service(
            "Storage Accounts",
            "Storage",
            "Object Storage",
            "Storage account",
            _arm("microsoft.storage/storageaccounts"),
            "GB-Months",
            12,
        ),
        Service(
            "Azure Managed Disks",
            "Storage",
            "Block Storage",
            "Disk",
            _arm("microsoft.compute/disks"),
            "GB-Months",
            5,
        ),
        Service(
            "Azure Backup",
            "Storage",
            "Backup Storage",
            "Recovery Services vault",
            _arm("microsoft.recoveryservices/vaults"),
            "GB-Months",
            2,
        ),
        Service(
            "Azure Front Door",
            "Networking",
            "Content Delivery",
            "Front Door profile",
            _arm("microsoft.cdn/profiles"),
            "GB",
            2,
        ),
        Service(
            "Load Balancer",
            "Networking",
            "Application Networking",
            "Load balancer",
            _arm("microsoft.network/loadbalancers"),
            "Hours",
            3,
        ),
        Service(
            "Virtual Network",
            "Networking",
            "Network Infrastructure",
            "Virtual network",
            _arm("microsoft.network/virtualnetworks"),
            "GB",
            3,
        ),
        Service(
            "Azure OpenAI Service",
            "AI and Machine Learning",
            "Generative AI",
            "Cognitive services account",
            _arm("microsoft.cognitiveservices/accounts"),
            "Tokens",
            3,
        ),
        Service(
            "Azure Machine Learning",
            "AI and Machine Learning",
            "Machine Learning",
            "Machine learning workspace",
            _arm("microsoft.machinelearningservices/workspaces"),
            "Hours",
            2,
        ),
        Service(
            "Key Vault",
            "Security",
            "Secret Management",
            "Key vault",
            _arm("microsoft.keyvault/vaults"),
            "Requests",
            2,
        ),
        Service(
            "Azure Monitor",
            "Management and Governance",
            "Observability",
            "Log Analytics workspace",
            _arm("microsoft.operationalinsights/workspaces"),
            "GB",
            3,
        ),
    ),
    "gcp": (
        Service(
            "Compute Engine",
            "Compute",
            "Virtual Machines",
            "Instance",
            _gcp("compute", "instances"),
            "Hours",
            18,
            True,
        ),
        Service(
            "Cloud Run",
            "Compute",
            "Serverless Compute",
            "Service",
            _gcp("run", "services"),
            "vCPU-Seconds",
            8,
        ),
        Service(
            "Google Kubernetes Engine",
            "Compute",
            "Containers",
            "Cluster",
            _gcp("container", "clusters"),
            "Hours",
            7,
            True,
        ),
        Service(
            "App Engine", "Web", "Application Platforms", "Application", _gcp("appengine", "apps"), "Hours", 3
        ),
        Service(
            "Cloud SQL",
            "Databases",
            "Relational Databases",
            "Instance",
            _gcp("sqladmin", "instances"),
            "Hours",
            8,
            True,
        ),
        Service(
            "Cloud Spanner",
            "Databases",
            "Relational Databases",
            "Instance",
            _gcp("spanner", "instances"),
            "Node-Hours",
            3,
        ),
        Service(
            "Cloud Bigtable",
            "Databases",
            "NoSQL Databases",
            "Instance",
            _gcp("bigtableadmin", "instances"),
            "Node-Hours",
            2,
        ),
        Service(
            "Memorystore for Redis",
            "Databases",
            "Caching",
            "Instance",
            _gcp("redis", "instances"),
            "GB-Hours",
            3,
        ),
        Service("BigQuery", "Databases", "Data Warehouses", "Dataset", _gcp("bigquery", "datasets"), "TB", 9),
        Service("Dataflow", "Analytics", "Data Processing", "Job", _gcp("dataflow", "jobs"), "vCPU-Hours", 4),
        Service("Pub/Sub", "Integration", "Messaging", "Topic", _gcp("pubsub", "topics"), "TB", 4),
        Service(
            "Looker",
            "Analytics",
            "Business Intelligence",
            "Instance",
            _gcp("looker", "instances"),
            "Hours",
            1,
        ),
        Service(
            "Cloud Storage",
            "Storage",
            "Object Storage",
            "Bucket",
            "//storage.googleapis.com/projects/{account}/buckets/{name}",
            "GB-Months",
            11,
        ),
        Service(
            "Filestore", "Storage", "File Storage", "Instance", _gcp("file", "instances"), "GB-Months", 2
        ),
        Service(
            "Cloud CDN",
            "Networking",
            "Content Delivery",
            "Backend service",
            _gcp("compute", "backendServices"),
            "GB",
            3,
        ),
        Service(
            "Cloud Load Balancing",
            "Networking",
            "Application Networking",
            "Forwarding rule",
            _gcp("compute", "forwardingRules"),
            "Hours",
            3,
        ),
        Service(
            "Networking",
            "Networking",
            "Network Infrastructure",
            "Network",
            _gcp("compute", "networks"),
            "GB",
            3,
        ),
        Service(
            "Vertex AI",
            "AI and Machine Learning",
            "AI Platforms",
            "Endpoint",
            _gcp("aiplatform", "endpoints"),
            "Hours",
            4,
        ),
        Service(
            "Secret Manager",
            "Security",
            "Secret Management",
            "Secret",
            _gcp("secretmanager", "secrets"),
            "Requests",
            1,
        ),
        Service(
            "Cloud Monitoring",
            "Management and Governance",
            "Observability",
            "Metrics scope",
            _gcp("monitoring", "metricsScopes"),
            "GB",
            3,
        ),
    ),
}
