//! Agents come with a token, and go when an operator removes them. Each is known by one key; a host that is set up anew joins again
//! under its name, and its former key is nobody's then.

use std::sync::Arc;

use super::{Change, State, check};
use crate::{
    agent::{AGENT_TOKEN_TTL_MAX, AGENT_TOKENS_MAX, AGENTS_MAX, Agent, AgentToken},
    id::{Digest, Revision},
    outcome::{Outcome, Rejection, WatchKey},
    spiffe::Name,
};

impl State {
    /// The agents, by name.
    pub fn agents(&self) -> impl Iterator<Item = &Arc<Agent>> {
        self.agents.values()
    }

    /// How many there are.
    pub fn agent_count(&self) -> usize {
        self.agents.len()
    }

    /// One of them.
    pub fn agent(&self, node: &Name) -> Option<&Arc<Agent>> {
        self.agents.get(node)
    }

    /// The agent that is known by this key.
    pub fn agent_of_key(&self, public_key: &Digest) -> Option<&Arc<Agent>> {
        self.agents.get(self.agent_keys.get(public_key)?)
    }

    /// The agent token with this digest.
    pub fn agent_token(&self, secret: &Digest) -> Option<&AgentToken> {
        self.agent_tokens.get(secret)
    }

    pub(super) fn create_agent_token(&mut self, change: &mut Change, token: &AgentToken) -> Result<Outcome, Rejection> {
        if let Some(found) = self.agent_tokens.get(&token.secret) {
            let is_duplicate = found.node == token.node && found.expires_at == token.expires_at;
            return if is_duplicate {
                Ok(Outcome::Done)
            } else {
                Err(Rejection::AlreadyExists { what: "an agent token with this secret".into() })
            };
        }
        let unused = self.agent_tokens.values().filter(|token| token.consumed.is_none()).count();
        check::room("unused agent tokens", unused, AGENT_TOKENS_MAX)?;
        if token.expires_at <= change.now || token.expires_at > change.now.plus(AGENT_TOKEN_TTL_MAX) {
            let days = AGENT_TOKEN_TTL_MAX.as_secs() / 86_400;
            let reason = format!("it must be within {days} days after {}", change.now);
            return Err(check::invalid(format!("the agent token's end {}", token.expires_at), reason));
        }
        self.forget_used_agent_token();
        let mut token = token.clone();
        (token.consumed, token.created) = (None, change.revision());
        self.agent_tokens.insert(token.secret, token);
        change.touch(WatchKey::AgentTokens);
        Ok(Outcome::Done)
    }

    /// Used tokens are kept for lost replies, but no more of them than of unused ones.
    fn forget_used_agent_token(&mut self) {
        if self.agent_tokens.len() < 2 * AGENT_TOKENS_MAX {
            return;
        }
        let used = self.agent_tokens.values().filter(|token| token.consumed.is_some());
        if let Some(first) = used.min_by_key(|token| (token.expires_at, token.secret)).map(|token| token.secret) {
            self.agent_tokens.remove(&first);
        }
    }

    pub(super) fn admit_agent(
        &mut self,
        change: &mut Change,
        secret: &Digest,
        node: &Name,
        public_key: Digest,
    ) -> Result<Outcome, Rejection> {
        let refused = |reason: String| Rejection::AgentTokenRefused { reason };
        let token = self.agent_tokens.get(secret);
        let token = token.ok_or_else(|| refused("it is unknown or has ended".into()))?;
        if token.node != *node {
            return Err(refused(format!("it is for the agent `{}`, not for `{node}`", token.node)));
        }
        let is_known = |state: &Self| state.agent(node).is_some_and(|agent| agent.public_key == public_key);
        match token.consumed {
            Some(key) if key == public_key && is_known(self) => return Ok(Outcome::Done),
            Some(key) if key == public_key => return Err(refused("its agent was removed or replaced since".into())),
            Some(_) => return Err(refused("it was used already, by an agent with another key".into())),
            None => {}
        }
        if let Some(other) = self.agent_of_key(&public_key).filter(|other| other.node != *node) {
            let what = format!("an agent with this key, `{}`", other.node);
            return Err(Rejection::AlreadyExists { what });
        }
        let former = self.agents.get(node).cloned();
        if former.is_none() {
            check::room("agents", self.agents.len(), AGENTS_MAX)?;
        }
        let mut token = token.clone();
        token.consumed = Some(public_key);
        self.agent_tokens.insert(*secret, token);
        if let Some(former) = &former {
            self.agent_keys.remove(&former.public_key);
            change.touch(WatchKey::Agent(former.public_key));
        }
        let created = former.map_or(change.revision(), |former| former.created);
        let (joined_at, modified) = (change.now, change.revision());
        self.agent_keys.insert(public_key, node.clone());
        self.agents
            .insert(node.clone(), Arc::new(Agent { node: node.clone(), public_key, joined_at, created, modified }));
        change.touch(WatchKey::Agents);
        change.touch(WatchKey::AgentTokens);
        Ok(Outcome::Done)
    }

    pub(super) fn remove_agent(
        &mut self,
        change: &mut Change,
        node: &Name,
        expected: Revision,
    ) -> Result<Outcome, Rejection> {
        let Some(found) = self.agents.get(node).cloned() else { return Ok(Outcome::Done) };
        check::unchanged(format!("the agent `{node}`"), expected, found.modified)?;
        self.agents.remove(node);
        self.agent_keys.remove(&found.public_key);
        change.touch(WatchKey::Agent(found.public_key));
        change.touch(WatchKey::Agents);
        Ok(Outcome::Done)
    }

    pub(super) fn expire_agent_tokens(&mut self, change: &mut Change) {
        let now = change.now;
        let ended = self.agent_tokens.iter().filter(|(_, token)| token.expires_at < now);
        let ended: Vec<Digest> = ended.map(|(secret, _)| *secret).collect();
        for secret in ended {
            self.agent_tokens.remove(&secret);
            change.touch(WatchKey::AgentTokens);
        }
    }
}
