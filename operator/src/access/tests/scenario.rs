//! What the scenarios share: an access of namespace `agents`, and servers to be opened.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::access::{Controller, reconcile};
use crate::azure::apim::mark;
use crate::azure::apim::{Owner, Purpose, resource_name};
use crate::fake::{GROUP, World};

pub(super) const ACCESS: &str = "/apis/mcpfleet.dev/v1alpha1/namespaces/agents/mcpaccesses/agents";
pub(super) const SECRET: &str = "/api/v1/namespaces/agents/secrets/agents-mcp";

pub(super) struct Scenario {
    pub world: World,
    pub controller: Controller,
}

impl Scenario {
    /// A gateway, and an access that names these servers of namespace `tools`.
    pub(super) async fn new(servers: &[&str]) -> Self {
        let world = World::new().await;
        world.add_gateway("contoso", |gateway| {
            gateway["status"] = json!({"conditions": [], "gatewayUrl": "https://gw.example"});
        });
        let names: Vec<Value> = servers
            .iter()
            .map(|name| json!({"name": name, "namespace": "tools"}))
            .collect();
        world.cluster.put(
            ACCESS,
            json!({
                "apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpAccess",
                "metadata": {"name": "agents", "namespace": "agents", "uid": "uid-access", "generation": 1},
                "spec": {"servers": names},
            }),
        );
        let controller = Controller::new(Arc::clone(&world.context), world.events());
        Self { world, controller }
    }

    /// A server that consents, is registered in `gateway`, and has its API there.
    pub(super) fn add_server(&self, name: &str, gateway: &str) {
        let api = api(name);
        let service = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ApiManagement/service/contoso";
        let claim = json!({
            "uid": format!("uid-{name}"), "gateway": gateway, "service": service,
            "api": format!("{service}/apis/{api}"), "backend": format!("{service}/backends/{api}"),
            "subscription": format!("{service}/subscriptions/{api}"),
        });
        let url = format!("https://gw.example/demo/tools/{name}/mcp");
        self.world.cluster.put(
            &server(name),
            json!({
                "apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpServer",
                "metadata": {"name": name, "namespace": "tools", "uid": format!("uid-{name}"),
                    "annotations": {"mcpfleet.dev/claim": claim.to_string()}},
                "spec": {"gateway": {"access": {"namespaces": ["agents"]}}},
                "status": {
                    "endpoints": {"gateway": url},
                    "gateway": {"name": gateway, "apiId": format!("{service}/apis/{api}")},
                    "conditions": [{"type": "Registered", "status": "True", "reason": "Registered", "message": "",
                        "lastTransitionTime": "2026-11-21T10:00:00Z"}],
                },
            }),
        );
        self.add_api(name);
    }

    pub(super) fn add_api(&self, name: &str) {
        let owner = Owner {
            cluster_id: "demo".into(),
            namespace: "tools".into(),
            name: name.into(),
            uid: format!("uid-{name}"),
        };
        let properties = json!({"path": format!("demo/tools/{name}"), "description": mark::line(&owner)});
        self.world.arm.put(&format!("/apis/{}", api(name)), properties);
    }

    pub(super) fn change_server(&self, name: &str, change: impl FnOnce(&mut Value)) {
        self.world.cluster.change(&server(name), change);
    }

    pub(super) fn change_access(&self, change: impl FnOnce(&mut Value)) {
        self.world.cluster.change(ACCESS, change);
    }

    /// One pass, and what it wrote to the cluster and to Azure, without the group's and the service's paths.
    pub(super) async fn pass(&mut self) -> (Vec<String>, Vec<String>) {
        self.world.sync();
        for access in self.world.context.caches.accesses.list() {
            reconcile(access, &self.controller).await;
        }
        self.world.sync();
        let short = |writes: Vec<String>| -> Vec<String> {
            let known = [
                (ACCESS, "access"),
                (SECRET, "secret"),
                (product().as_str(), "product"),
            ]
            .map(|(path, name)| (path.to_owned(), name));
            let short = |write: String| {
                known
                    .iter()
                    .fold(write, |text, (path, name)| text.replace(path, name))
            };
            writes.into_iter().map(short).collect()
        };
        (
            short(self.world.cluster.take_writes()),
            short(self.world.arm.take_writes()),
        )
    }

    /// A new process, with an empty memory.
    pub(super) fn restart(&mut self) {
        self.controller = Controller::new(Arc::clone(&self.world.context), self.world.events());
    }

    pub(super) fn condition(&self, type_: &str) -> (String, String, String) {
        let access = self.world.cluster.get(ACCESS).unwrap();
        let conditions = access["status"]["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|one| one["type"] == type_).unwrap();
        let text = |member: &str| found[member].as_str().unwrap().to_owned();
        (text("status"), text("reason"), text("message"))
    }

    pub(super) fn assert_ready(&self) {
        let (status, reason, message) = self.condition("Ready");
        assert_eq!(status, "True", "{reason}: {message}");
    }

    /// An entry of the Secret.
    pub(super) fn entry(&self, name: &str) -> Option<String> {
        let secret = self.world.cluster.get(SECRET)?;
        let text = secret["data"][name].as_str()?.to_owned();
        Some(String::from_utf8(STANDARD.decode(text).unwrap()).unwrap())
    }

    /// Names of the linked servers.
    pub(super) fn linked(&self) -> Vec<String> {
        let inside = format!("{}/apis/", product());
        let paths = self.world.arm.paths();
        let ids = paths.iter().filter_map(|path| path.strip_prefix(&inside));
        ids.map(|id| id.split('-').nth(2).unwrap().to_owned()).collect()
    }
}

fn server(name: &str) -> String {
    format!("{GROUP}/namespaces/tools/mcpservers/{name}")
}

pub(super) fn api(name: &str) -> String {
    resource_name(Purpose::Server, "demo", "tools", name)
}

pub(super) fn id() -> String {
    resource_name(Purpose::Access, "demo", "agents", "agents")
}

pub(super) fn product() -> String {
    format!("/products/{}", id())
}
