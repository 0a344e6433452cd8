//! Brings one server's registration in line: look, judge, plan, write, follow.
//! In: [`ServerRegistration`], how deep to look, and an operation that a former pass left running; out: what was
//! written, or the operation that still runs.
//!
//! Every step can be the last one before a crash or a lost answer: names are the same in every pass, everything
//! starts with looking, and marks are part of the first write of each resource. So the next pass goes on where this
//! one ended and makes nothing twice.

use super::{
    attempts::Attempts,
    document::{ServerDocuments, ServerRegistration, documents},
    error::{ArmError, ErrorClass, RegistrationError},
    look::{Depth, Looked, look, read},
    operation::{Outcome, PendingOperation, follow, in_progress},
    path::{Way, find_way, is_same_path, path_conflict},
    plan::{Observed, Step, check_ownership, plan},
    remove::remove_server,
    request::Response,
    target::Resource,
    transport::ArmClient,
};

/// How often a write is sent that meets another operation, or a policy whose backend the service does not see yet.
const TRIES: u32 = 4;

/// A registration that is in line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Full ARM ids.
    pub api: String,
    pub backend: String,
    pub subscription: Option<String>,
    pub writes: u32,
    /// What was written, for logs and status, for example `policy` or `backend (url)`. Empty when nothing was due.
    pub changed: Vec<String>,
}

/// Makes API Management as desired. After an error, drop `progress`: it has ended or is no use.
pub async fn ensure_server(
    client: &ArmClient,
    desired: &ServerRegistration,
    depth: Depth,
    progress: Option<PendingOperation>,
) -> Result<Outcome<Registered>, RegistrationError> {
    let documents = documents(desired)?;
    if let Some(operation) = progress
        && let Outcome::Pending(operation) = follow(client, operation, client.limits().operation).await?
    {
        return Ok(Outcome::Pending(operation));
    }
    let mut pass = Pass {
        client,
        desired,
        documents: &documents,
        depth,
        attempts: Attempts::default(),
        is_new: None,
        changed: vec![],
    };
    loop {
        match pass.run().await {
            Err(error) if pass.attempts.again(&error) => {}
            Err(error) => return Err(error),
            Ok(Some(operation)) => return Ok(Outcome::Pending(operation)),
            Ok(None) => {
                let inventory = client.inventory();
                inventory.rests(&desired.ids.api_id);
                if !pass.changed.is_empty() {
                    inventory.settled(&desired.ids, &documents);
                }
                return Ok(Outcome::Done(registered(client, desired, pass.changed)));
            }
        }
    }
}

fn registered(client: &ArmClient, desired: &ServerRegistration, changed: Vec<String>) -> Registered {
    let target = client.target();
    let ids = &desired.ids;
    Registered {
        api: target.id(&Resource::Api(ids.api_id.clone())),
        backend: target.id(&Resource::Backend(ids.backend_id.clone())),
        subscription: desired
            .probe_key
            .as_ref()
            .map(|_| target.id(&Resource::Subscription(ids.subscription_id.clone()))),
        writes: u32::try_from(changed.len()).unwrap_or(u32::MAX),
        changed,
    }
}

/// One pass over everything, and what its repetitions share.
struct Pass<'p> {
    client: &'p ArmClient,
    desired: &'p ServerRegistration,
    documents: &'p ServerDocuments,
    depth: Depth,
    attempts: Attempts,
    /// There was no API when it began.
    is_new: Option<bool>,
    changed: Vec<String>,
}

impl Pass<'_> {
    /// `Some` when an operation outlasts it.
    async fn run(&mut self) -> Result<Option<PendingOperation>, RegistrationError> {
        let Self {
            client,
            desired,
            documents,
            ..
        } = *self;
        let ids = &desired.ids;
        let api = Resource::Api(ids.api_id.clone());
        let Some(mut observed) = self.look().await? else {
            return Ok(None);
        };
        let ownership = observed.ownership(&desired.owner, ids);
        check_ownership(&observed, &ownership, ids)?;
        if let Some(found) = &observed.api
            && in_progress(found.properties.provisioning_state.as_deref())
        {
            // The import of a pass that was cut off.
            let operation = PendingOperation::on_resource(&api.title(), client.target().url(&api));
            if let Outcome::Pending(operation) = follow(client, operation, client.limits().operation).await? {
                return Ok(Some(operation));
            }
            observed = read(client, desired).await?;
        }
        let is_new = *self.is_new.get_or_insert(observed.api.is_none());
        if let Way::Aside(step, waits) = find_way(client, desired, documents, observed.api.as_ref()).await? {
            return Err(self.step_aside(&step, waits).await);
        }
        for step in plan(ids, documents, &observed, self.depth == Depth::Repair) {
            match write_patiently(client, &step).await {
                Ok((_, None)) => self.changed.push(step.change),
                Ok((_, Some(operation))) => return Ok(Some(operation)),
                Err(error) => {
                    let error = path_conflict(error, &step.resource);
                    if is_new && error.is_refusal() {
                        withdraw(client, desired).await;
                    }
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// `None` when all is as desired.
    async fn look(&self) -> Result<Option<Observed>, ArmError> {
        if !self.attempts.is_first() {
            return read(self.client, self.desired).await.map(Some);
        }
        let looked = look(self.client, self.desired, self.documents, self.depth).await?;
        Ok(match looked {
            Looked::InLine => None,
            Looked::Found(observed) => Some(*observed),
        })
    }

    /// Gives the path up to those that wait for it. The next pass takes the wanted one.
    async fn step_aside(&self, step: &Step, waits: RegistrationError) -> RegistrationError {
        match write(self.client, step).await {
            Ok(_) => {
                let path = step
                    .body
                    .as_ref()
                    .and_then(|body| body["properties"]["path"].as_str());
                let path = path.unwrap_or_default();
                tracing::info!(owner = %self.desired.owner, path, "stepped aside for a server that waits for the path");
                self.client.inventory().moved(&self.desired.ids.api_id, path);
                waits
            }
            Err(error) => error.into(),
        }
    }
}

/// A write that another operation holds up, or a policy whose backend was made a moment ago in another replica of the
/// service, is sent again after a growing pause.
async fn write_patiently(
    client: &ArmClient,
    step: &Step,
) -> Result<(Response, Option<PendingOperation>), ArmError> {
    let mut pause = client.limits().again;
    for _ in 1..TRIES {
        match write(client, step).await {
            Err(error) if passes_by_itself(&error, step) => tokio::time::sleep(pause).await,
            other => return other,
        }
        pause *= 2;
    }
    write(client, step).await
}

fn passes_by_itself(error: &ArmError, step: &Step) -> bool {
    match &error.class {
        ErrorClass::ConflictInProgress { message } => !is_same_path(message),
        ErrorClass::Validation { message, .. } => {
            let message = message.to_ascii_lowercase();
            matches!(step.resource, Resource::ApiPolicy(_))
                && message.contains("backend with id")
                && message.contains("could not be found")
        }
        _ => false,
    }
}

/// Sends one step and follows what it starts. `Some` when that outlasts the patience of a pass.
pub(crate) async fn write(
    client: &ArmClient,
    step: &Step,
) -> Result<(Response, Option<PendingOperation>), ArmError> {
    client.inventory().writing(&step.resource);
    let mut request = client.request(step.verb, &step.resource);
    request.body.clone_from(&step.body);
    request.if_match.clone_from(&step.if_match);
    let answer = client.send(&request).await?;
    tracing::info!(
        verb = step.verb.label(),
        resource = request.title,
        change = step.change,
        correlation = answer.header("x-ms-correlation-request-id"),
        "wrote to API Management"
    );
    let started = PendingOperation::from_answer(client, step.verb, &request.title, &request.url, &answer)?;
    let Some(operation) = started else {
        return Ok((answer, None));
    };
    match follow(client, operation, client.limits().operation).await? {
        Outcome::Done(()) => Ok((answer, None)),
        Outcome::Pending(operation) => Ok((answer, Some(operation))),
    }
}

/// The service refused a part of a registration that this pass began: what was made goes again, so that nothing half made
/// stays. One that was there before is never taken away, whatever the service says about a part of it. A failure here
/// is not reported over the refusal; deletion comes by here again.
async fn withdraw(client: &ArmClient, desired: &ServerRegistration) {
    if let Err(error) = remove_server(client, &desired.owner, &desired.ids).await {
        tracing::warn!(%error, owner = %desired.owner, "could not withdraw an incomplete registration");
    }
}
