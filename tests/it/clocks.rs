//! Clocks that are wrong, and a cluster that slept too long. The servers run in this process, on clocks of the test's own.

use std::{sync::Arc, time::Duration};

use carrack::{
    keys::{aws_lc::AwsLcKeyMaker, secret::KeyMaker},
    server::{
        Server, Start,
        desk::{Granted, IssueRequest, Issued},
        ports::MachineClock,
    },
};
use carrack_authority::{
    Command,
    acl::{AccessorId, PolicyId, Token, token::secret_digest},
    ca_config::CaConfig,
    id::Revision,
    issuance::Keeper,
    key::KeyKind,
    root::Ca,
    rotation::{ACK_TIMEOUT, RotationCause, RotationRequest, WantedRoot},
    spiffe::{Identity, Name, SpiffeId},
    time::Timestamp,
    x509::{CertificateFacts, RequestedName, build_csr},
};
use carrack_raft::ports::WallClock;
use carrack_tests::in_process::{Datacenter, until};
use tokio::time::Instant;
use uuid::Uuid;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// How far dates may be from what the true time says: the log's clock is slewed, and machines are busy.
const TOLERANCE: Duration = Duration::from_secs(30);

/// A token that ends after `ttl`, in the log.
async fn token(server: &Server, number: u128, ttl: Duration) -> anyhow::Result<Arc<Token>> {
    let secret = Uuid::from_u128(0x4000_8000_0000_0000_0000 + number);
    let token = Token {
        accessor: AccessorId(Uuid::from_u128(0x1000 + number)),
        secret: secret_digest(&secret),
        description: String::new(),
        policies: vec![PolicyId::GLOBAL_MANAGEMENT],
        service_identities: Vec::new(),
        node_identities: Vec::new(),
        roles: Vec::new(),
        auth_method: None,
        is_local: false,
        expires_at: Some(server.context().replica.log_time().plus(ttl)),
        created_at: Timestamp::EPOCH,
        created: Revision::default(),
        modified: Revision::default(),
    };
    let accessor = token.accessor;
    let command = Command::PutToken { expected: Revision::default(), token };
    let deadline = Instant::now() + Duration::from_secs(10);
    let proposed = server.context().replica.propose(command, deadline).await?;
    proposed.outcome.accepted()?;
    let applied = server.context().replica.wait_index(proposed.index, deadline).await;
    let applied = applied.ok_or_else(|| anyhow::anyhow!("the token was not applied here in time"))?;
    let token = applied.state.acl().token(accessor, applied.state.now());
    token.cloned().ok_or_else(|| anyhow::anyhow!("the token does not live"))
}

async fn issue(server: &Server, token: &Arc<Token>) -> anyhow::Result<Issued> {
    let identity = &server.context().identity;
    let service = Name::parse("service", "web")?;
    let id = SpiffeId::service(identity.trust_domain.clone(), identity.datacenter.clone(), service);
    let signer = AwsLcKeyMaker.signer(&AwsLcKeyMaker.make(KeyKind::EcP256)?)?;
    let csr = build_csr(&*signer, &RequestedName::Leaf(&Identity::Spiffe(id)))?;
    let request = IssueRequest {
        csr: csr.as_bytes().to_vec(),
        granted: Granted::Token(token.clone()),
        keeper: Keeper::Login(token.accessor),
        slot: None,
        ttl: None,
    };
    Ok(server.context().desk.issue(request).await?)
}

fn assert_dated(issued: &Issued, now: Timestamp) {
    let facts = CertificateFacts::read(issued.certificate.as_bytes()).expect("an issued certificate is one");
    let life = Duration::from_secs(72 * 3600);
    assert!(facts.not_before <= now.plus(TOLERANCE), "begins at {}, it is {now}", facts.not_before);
    assert!(facts.not_before.plus(TOLERANCE + Duration::from_secs(60)) >= now, "begins at {}", facts.not_before);
    assert!(facts.not_after <= now.plus(life + TOLERANCE), "ends at {}, it is {now}", facts.not_after);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_clock_is_an_hour_off_kills_no_token_and_dates_certificates_right() -> anyhow::Result<()> {
    let datacenter = Datacenter::form(3).await?;
    for (round, hours) in [1, -1].into_iter().enumerate() {
        let wrong = round + 1;
        let token = token(datacenter.places[0].running(), round as u128, Duration::from_secs(600)).await?;
        datacenter.places[wrong].clock.set_ahead(hours * HOUR);
        // The server with the wrong clock leads: it takes the median of a majority's clocks, not its own.
        let server = datacenter.places[wrong].running();
        let leader = datacenter.leader().await?;
        if leader != wrong {
            let deadline = Instant::now() + Duration::from_secs(10);
            let node = server.context().identity.node;
            datacenter.places[leader].running().context().replica.transfer_leadership(node, deadline).await?;
            until("the wrong clock's server leads", || server.context().replica.status().leadership.is_ready_leader())
                .await?;
        }
        for place in &datacenter.places {
            assert_dated(&issue(place.running(), &token).await?, MachineClock.now());
        }
        let applied = server.context().replica.state();
        assert!(applied.state.acl().token(token.accessor, applied.state.now()).is_some(), "the token was killed");
        let off = applied.log_time().since(MachineClock.now()).max(MachineClock.now().since(applied.log_time()));
        assert!(off <= TOLERANCE, "the log's time is {} s off", off.as_secs());
        datacenter.places[wrong].clock.set_ahead(0);
    }
    Ok(())
}

/// Away from the active root, to one of the provider's, as the commands begin it.
async fn rotate(server: &Server, is_bridged: bool) -> anyhow::Result<()> {
    let state = server.context().replica.state().state.clone();
    let active = state.roots(Ca::Mesh).active().ok_or_else(|| anyhow::anyhow!("there is no active root"))?;
    let (provider, key_kind) = (active.made.provider.clone(), KeyKind::EcP256);
    let request = RotationRequest {
        cause: RotationCause::Operator,
        expected_active: active.made.id,
        wanted: WantedRoot::Made { provider, key_kind },
        is_bridged,
        pauses_before_activation: false,
        ack_timeout: ACK_TIMEOUT,
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    let begun = server.context().replica.propose(Command::StartRotation(Box::new(request)), deadline).await?;
    begun.outcome.accepted()?;
    let replica = &server.context().replica;
    let is_over = || {
        let state = replica.state().state.clone();
        state.rotation().is_none() && state.last_rotation().is_some_and(|last| last.rotation.id.0 == begun.index)
    };
    until("the rotation is over", is_over).await
}

/// Everything of the mesh has ended, the root too: what `carrack ca rotate` does then.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_slept_past_its_root_says_so_and_a_rotation_repairs_it() -> anyhow::Result<()> {
    let mut datacenter = Datacenter::form(3).await?;
    let server = datacenter.places[0].running();
    let state = server.context().replica.state().state.clone();
    let stored = state.ca_config();
    let year = Duration::from_secs(365 * 86_400);
    let config = CaConfig { root_ttl: year, intermediate_ttl: year, ..stored.config };
    let command = Command::SetCaConfig { expected: stored.modified, config, rotation_period: None, rotation: None };
    let deadline = Instant::now() + Duration::from_secs(10);
    server.context().replica.propose(command, deadline).await?.outcome.accepted()?;
    rotate(server, true).await?;
    for place in &mut datacenter.places {
        place.stop().await;
        place.clock.set_ahead(400 * DAY);
    }
    for place in &mut datacenter.places {
        place.start(Start::Again).await?;
    }
    datacenter.leader().await?;
    let server = datacenter.places[0].running();
    let token = token(server, 11, Duration::from_secs(600)).await?;
    let refused = issue(server, &token).await.err().map(|error| error.to_string());
    assert!(
        refused.as_ref().is_some_and(|text| text.contains("which has ended: `carrack ca rotate` replaces it")),
        "it says why: {refused:?}"
    );
    rotate(server, false).await?;
    let now = MachineClock.now().plus(Duration::from_secs(400 * 86_400));
    for place in &datacenter.places {
        // It has the new root's issuer at work.
        let replica = &place.running().context().replica;
        until("an issuer under the active root", || {
            let state = replica.state().state.clone();
            let active = state.roots(Ca::Mesh).active().map(|root| root.made.id);
            let issuer = place.running().context().desk.issuer();
            issuer.and_then(|id| state.issuer(&id).map(|issuer| issuer.root)) == active
        })
        .await?;
        assert_dated(&issue(place.running(), &token).await?, now);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_slept_past_every_server_certificate_comes_up_renews_them_and_issues() -> anyhow::Result<()> {
    let mut datacenter = Datacenter::form(3).await?;
    let before: Vec<_> = certificates(&datacenter);
    for place in &mut datacenter.places {
        place.stop().await;
        place.clock.set_ahead(40 * DAY);
    }
    for place in &mut datacenter.places {
        place.start(Start::Again).await?;
    }
    datacenter.wait_until_all_issue().await?;
    let now = MachineClock.now().plus(Duration::from_secs(40 * 86_400));
    until("every server certificate is renewed", || {
        certificates(&datacenter).iter().zip(&before).all(|(after, before)| after > before && *after > now)
    })
    .await?;
    let accepted: u64 = datacenter.places.iter().map(|place| place.running().context().metrics.expired_peers()).sum();
    assert!(accepted > 0, "an expired certificate that is accepted by its recorded key raises an alarm");
    let token = token(datacenter.places[0].running(), 9, Duration::from_secs(600)).await?;
    for place in &datacenter.places {
        assert_dated(&issue(place.running(), &token).await?, now);
    }
    Ok(())
}

/// When each server's recorded certificate ends, as the first server knows it.
fn certificates(datacenter: &Datacenter) -> Vec<Timestamp> {
    let applied = datacenter.places[0].running().context().replica.state();
    let members = applied.state.members();
    members.filter_map(|member| member.certificate.as_ref()).map(|certificate| certificate.not_after).collect()
}
