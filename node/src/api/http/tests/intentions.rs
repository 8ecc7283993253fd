//! Intentions and their config entries: what Consul's clients send and read, who may, and who is woken by what.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use super::datacenter::{Answered, Datacenter};

const EXACT: &str = "/v1/connect/intentions/exact";
const CONFIG: &str = "/v1/config/service-intentions";

fn exact(source: &str, destination: &str) -> String {
    format!("{EXACT}?source={source}&destination={destination}")
}

impl Datacenter {
    async fn intend(&self, source: &str, destination: &str, action: &str) {
        let body = json!({ "Action": action });
        let answer = self.put(&exact(source, destination)).managed().json(&body).ok().await;
        assert_eq!(answer, true);
    }

    async fn is_allowed(&self, source: &str, destination: &str) -> Value {
        let path = format!("/v1/connect/intentions/check?source={source}&destination={destination}");
        self.get(&path).managed().ok().await["Allowed"].clone()
    }

    async fn put_entry(&self, entry: &Value) -> Answered {
        self.put("/v1/config").managed().json(entry).send().await
    }
}

/// `web => db`, and so on, in their order.
fn pairs(rows: &Value) -> Vec<String> {
    let text = |row: &Value, field: &str| row[field].as_str().unwrap().to_owned();
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| format!("{} => {}", text(row, "SourceName"), text(row, "DestinationName"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn intentions_are_written_read_matched_checked_and_deleted_by_their_names() {
    let datacenter = Datacenter::begin().await;
    assert_eq!(datacenter.get("/v1/connect/intentions").managed().ok().await, json!([]));
    assert_eq!(datacenter.is_allowed("web", "db").await, false, "ACLs deny by default");
    let described = json!({
        "SourceName": "web", "DestinationName": "db", "SourceType": "consul", "Action": "allow", "Description": "it reads"
    });
    let path = exact("web", "db");
    assert_eq!(datacenter.put(&path).managed().json(&described).ok().await, true);
    let read = datacenter.get(&path).managed().expect(200).await;
    let (index, read) = (read.index(), read.json());
    assert_eq!(read["ModifyIndex"], index);
    let expected = json!({
        "Description": "it reads", "SourceNS": "default", "SourceName": "web", "DestinationNS": "default",
        "DestinationName": "db", "SourceType": "consul", "Action": "allow", "Precedence": 9,
        "CreatedAt": read["CreatedAt"], "UpdatedAt": read["UpdatedAt"], "CreateIndex": index, "ModifyIndex": index,
    });
    assert_eq!(read, expected);
    datacenter.intend("*", "db", "deny").await;
    datacenter.intend("web", "*", "deny").await;
    datacenter.intend("*", "*", "allow").await;
    let listed = datacenter.get("/v1/connect/intentions").managed().expect(200).await;
    assert_eq!(listed.header("x-consul-results-filtered-by-acls"), "false");
    assert_eq!(pairs(&listed.json()), ["web => db", "* => db", "web => *", "* => *"]);
    let matched = "/v1/connect/intentions/match";
    let of_two = datacenter.get(&format!("{matched}?by=destination&name=db&name=cache")).managed().ok().await;
    assert_eq!(pairs(&of_two["db"]), ["web => db", "* => db", "web => *", "* => *"]);
    assert_eq!(pairs(&of_two["cache"]), ["web => *", "* => *"]);
    let of_source = datacenter.get(&format!("{matched}?by=source&name=default/web")).managed().ok().await;
    assert_eq!(pairs(&of_source["default/web"]), ["web => db", "* => db", "web => *", "* => *"]);
    let allowed = [("web", "db", true), ("api", "db", false), ("web", "cache", false), ("api", "cache", true)];
    for (source, destination, is_allowed) in allowed {
        assert_eq!(datacenter.is_allowed(source, destination).await, is_allowed, "{source} => {destination}");
    }
    for round in 0..2 {
        assert_eq!(datacenter.delete(&path).managed().ok().await, true, "{round}: what is not there is deleted, too");
        assert_eq!(datacenter.get(&path).managed().expect(404).await.text, "Intention not found");
    }
    assert_eq!(datacenter.is_allowed("web", "db").await, false, "the next one decides");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_decides_by_the_request_and_check_which_has_none_denies() {
    let datacenter = Datacenter::begin().await;
    let http = json!({ "PathPrefix": "/admin", "Methods": ["GET"], "Header": [{ "Name": "X-Team", "Exact": "a" }] });
    let permissions = json!([{ "Action": "allow", "HTTP": http }, { "Action": "deny", "HTTP": { "PathPrefix": "/" } }]);
    let path = exact("web", "db");
    datacenter.put(&path).managed().json(&json!({ "Permissions": permissions })).ok().await;
    datacenter.intend("*", "db", "allow").await;
    let read = datacenter.get(&path).managed().ok().await;
    assert_eq!((&read["Permissions"], read.get("Action")), (&permissions, None), "{read}");
    assert_eq!(datacenter.is_allowed("web", "db").await, false);
    let explain = async |query: &str| {
        let path = format!("/v1/carrack/intention/explain?source=web&destination=db{query}");
        datacenter.get(&path).managed().ok().await
    };
    let without = explain("").await;
    assert_eq!(without["Reason"], "Matched L7 intention: default/web => default/db (Precedence: 9, Permissions: 2)");
    assert_eq!((&without["Allowed"], pairs(&without["Beaten"])), (&json!(false), vec!["* => db".to_owned()]));
    assert!(without["Detail"].as_str().unwrap().contains("none to look at"), "{without}");
    let fits = explain("&path=/admin/x&header=x-team:%20a").await;
    assert_eq!((&fits["Allowed"], &fits["Detail"]), (&json!(true), &json!("permission 1 of 2 fits first: allow")));
    let other = explain("&path=/admin/x&method=POST").await;
    assert_eq!((&other["Allowed"], &other["Detail"]), (&json!(false), &json!("permission 2 of 2 fits first: deny")));
    let tricky = explain("&path=/a%2561dmin").await;
    assert_eq!(tricky["Allowed"], false, "{tricky}");
    let headless = "/v1/carrack/intention/explain?source=web&destination=db&method=GET";
    assert!(datacenter.get(headless).managed().expect(400).await.text.contains("needs a `path`"));
    let none = datacenter.get("/v1/carrack/intention/explain?source=web&destination=x").managed().ok().await;
    assert_eq!((&none["Reason"], &none["Intention"]), (&json!("Default behavior configured by ACLs"), &Value::Null));
    assert_eq!((&none["Default"], &none["DefaultFrom"]), (&json!("deny"), &json!("acl")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_config_entry_is_a_destination_as_a_whole_and_is_compared_by_its_index() {
    let datacenter = Datacenter::begin().await;
    let missing = datacenter.get(&format!("{CONFIG}/db")).managed().expect(404).await;
    assert_eq!(missing.text, "Config entry not found for \"service-intentions\": this destination has no intentions");
    let entry = json!({
        "Kind": "service-intentions", "Name": "db", "Meta": { "team": "a" },
        "Sources": [
            { "Name": "*", "Action": "deny" },
            { "Name": "web", "Action": "allow", "Description": "it reads" },
        ],
    });
    let put = async |query: &str, entry: &Value| {
        datacenter.put(&format!("/v1/config{query}")).managed().json(entry).ok().await
    };
    assert_eq!(put("?cas=7", &entry).await, false, "it was not there at 7");
    assert_eq!(put("?cas=0", &entry).await, true);
    let read = datacenter.get(&format!("{CONFIG}/db")).managed().expect(200).await;
    let (index, read) = (read.index(), read.json());
    assert_eq!(
        (&read["CreateIndex"], &read["ModifyIndex"], &read["Meta"]),
        (&json!(index), &json!(index), &entry["Meta"])
    );
    let sources = json!([
        { "Name": "web", "Action": "allow", "Precedence": 9, "Type": "consul", "Description": "it reads" },
        { "Name": "*", "Action": "deny", "Precedence": 8, "Type": "consul" },
    ]);
    assert_eq!(read["Sources"], sources);
    assert_eq!(datacenter.get(CONFIG).managed().ok().await, json!([read]));
    assert_eq!(put(&format!("?cas={index}"), &read).await, true, "what was read is written back");

    // One that comes by itself is in the entry, has its Meta, and changes its index.
    datacenter.intend("api", "db", "allow").await;
    let row = datacenter.get(&exact("api", "db")).managed().ok().await;
    assert_eq!(row["Meta"], entry["Meta"]);
    let other = json!({ "Kind": "service-intentions", "Name": "db", "Sources": [{ "Name": "web", "Action": "deny" }] });
    assert_eq!(put(&format!("?cas={index}"), &other).await, false);
    let delete = async |query: &str| datacenter.delete(&format!("{CONFIG}/db{query}")).managed().ok().await;
    assert_eq!(delete(&format!("?cas={index}")).await, false);
    assert_eq!(put("", &other).await, true);
    assert_eq!(pairs(&datacenter.get("/v1/connect/intentions").managed().ok().await), ["web => db"]);
    let now = datacenter.get(&format!("{CONFIG}/db")).managed().ok().await["ModifyIndex"].clone();
    assert_eq!(delete(&format!("?cas={now}")).await, true);
    assert_eq!(delete("").await, json!({}), "what is not there is deleted, too");
    datacenter.put("/v1/config?cas=x").managed().json(&other).expect(400).await;
    let kind = json!({ "Kind": "proxy-defaults", "Name": "global" });
    assert!(datacenter.put_entry(&kind).await.text.contains("`proxy-defaults` are not here"));
    datacenter.get("/v1/config/proxy-defaults").managed().expect(404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deprecated_api_names_intentions_by_ids() {
    let datacenter = Datacenter::begin().await;
    let draft = json!({ "SourceName": "web", "DestinationName": "db", "Action": "deny", "Meta": { "k": "v" } });
    let create = || datacenter.ask("POST", "/v1/connect/intentions").managed().json(&draft);
    let made = create().ok().await;
    let id = made["ID"].as_str().unwrap();
    let path = format!("/v1/connect/intentions/{id}");
    let read = datacenter.get(&path).managed().ok().await;
    assert_eq!((&read["ID"], &read["Action"], &read["Meta"]["k"]), (&json!(id), &json!("deny"), &json!("v")));
    let twice = create().expect(409).await;
    assert!(twice.text.starts_with("duplicate intention found: web => db"), "{}", twice.text);
    let moved = json!({ "SourceName": "web", "DestinationName": "cache", "Action": "allow" });
    let refused = datacenter.put(&path).managed().json(&moved).expect(400).await;
    assert!(
        refused.text.starts_with("cannot modify DestinationName for an intention once it exists"),
        "{}",
        refused.text
    );
    let changed = json!({ "ID": id, "SourceName": "web", "DestinationName": "db", "Action": "allow" });
    assert_eq!(datacenter.put(&path).managed().json(&changed).ok().await["ID"], id);
    assert_eq!(datacenter.is_allowed("web", "db").await, true);
    let with_id = json!({ "ID": id, "SourceName": "x", "DestinationName": "db", "Action": "allow" });
    let refused = datacenter.ask("POST", "/v1/connect/intentions").managed().json(&with_id).expect(400).await;
    assert_eq!(refused.text, "ID must be empty when creating a new intention");
    assert_eq!(datacenter.delete(&path).managed().ok().await, true);
    assert_eq!(datacenter.get(&path).managed().expect(404).await.text, "Intention not found");
    let gone = datacenter.put(&path).managed().json(&changed).expect(404).await;
    assert_eq!(gone.text, "Cannot modify non-existent intention: none has this ID");
    datacenter.delete(&path).managed().expect(404).await;
    assert_eq!(
        datacenter.get(&format!("{path}x")).managed().expect(400).await.text,
        "the intention's ID is not a UUID"
    );

    // Once written by its names it has no id any more.
    let made = create().ok().await;
    datacenter.intend("web", "db", "allow").await;
    let path = format!("/v1/connect/intentions/{}", made["ID"].as_str().unwrap());
    datacenter.get(&path).managed().expect(404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_intention_is_refused_in_consuls_words() {
    let datacenter = Datacenter::begin().await;
    let entry = |sources: Value| json!({ "Kind": "service-intentions", "Name": "db", "Sources": sources });
    let permissions = json!([{ "Action": "allow", "HTTP": { "PathExact": "/" } }]);
    let any = json!({ "Kind": "service-intentions", "Name": "*", "Sources": [{ "Name": "web", "Permissions": permissions }] });
    let both = json!([{ "Name": "web", "Action": "allow", "Permissions": permissions }]);
    for (entry, message) in [
        (entry(json!([])), "At least one source is required"),
        (entry(json!([{ "Action": "allow" }])), "Sources[0].Name is required"),
        (entry(json!([{ "Name": "web" }])), "Sources[0].Action must be set to 'allow' or 'deny'"),
        (entry(both), "Sources[0].Action must be omitted if Permissions are specified"),
        (any, "Sources[0].Permissions cannot be specified on intentions with wildcarded destinations"),
        (
            entry(json!([{ "Name": "we*", "Action": "allow" }])),
            "wildcard character '*' cannot be used with partial values",
        ),
        (json!({ "Kind": "service-intentions", "Sources": [] }), "Name is required"),
        (json!({ "Name": "db" }), "Kind is required"),
    ] {
        let refused = datacenter.put_entry(&entry).await;
        assert_eq!(refused.status.as_u16(), 400, "{}", refused.text);
        assert!(refused.text.contains(message), "{message}: {}", refused.text);
    }
    let allow = json!({ "Action": "allow" });
    let put = |path: String, body: &Value| datacenter.put(&path).managed().json(body);
    for (path, body, message) in [
        (EXACT.to_owned(), allow.clone(), "required query parameter 'source' not set"),
        (exact("web", ""), allow.clone(), "required query parameter 'destination' not set"),
        (exact("a/b/c/d", "db"), allow.clone(), "source is invalid"),
        (exact("ns2/web", "db"), allow.clone(), "there is one alone, `default`"),
        (exact("web", "db"), json!({ "Action": "allow", "Meta": { "a": "b" } }), "Meta must not be specified"),
        (exact("web", "db"), json!({ "Action": "allow", "DestinationName": "x" }), "cannot modify DestinationName"),
        (
            exact("web", "db"),
            json!({ "Action": "allow", "Description": "x".repeat(513) }),
            "Description exceeds maximum length 512",
        ),
        (exact("web", "db"), json!({ "Acton": "allow" }), "unknown field `Acton`"),
    ] {
        let refused = put(path, &body).expect(400).await;
        assert!(refused.text.contains(message), "{message}: {}", refused.text);
    }
    for (query, message) in [
        ("match?name=db", "required query parameter 'by' not set"),
        ("match?by=x&name=db", "'by' parameter must be one of 'source' or 'destination'"),
        ("match?by=source", "required query parameter 'name' not set"),
        ("match?by=source&name=*", "name is invalid"),
        ("check?source=web", "required query parameter 'destination' not set"),
        ("check?source=web&destination=db&source-type=vm", "unsupported SourceType: \"vm\""),
        ("exact?source=web", "required query parameter 'destination' not set"),
    ] {
        let refused = datacenter.get(&format!("/v1/connect/intentions/{query}")).managed().expect(400).await;
        assert!(refused.text.contains(message), "{message}: {}", refused.text);
    }
    let filter = datacenter.get("/v1/connect/intentions?filter=Action==allow").managed().expect(400).await;
    assert!(filter.text.contains("choose among the rows"), "{}", filter.text);
    let names: String = (0..33).map(|number| format!("&name=s{number}")).collect();
    datacenter.get(&format!("/v1/connect/intentions/match?by=destination{names}")).managed().expect(400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_see_a_service_sees_its_intentions_and_who_may_write_them_is_told_apart() {
    let datacenter = Datacenter::begin().await;
    for destination in ["db", "cache", "*"] {
        datacenter.intend("web", destination, "allow").await;
    }
    let db = datacenter.token_with_rules("db", r#"service "db" { policy = "write" }"#).await;
    let writer =
        datacenter.token_with_rules("writer", r#"service "db" { policy = "read" intentions = "write" }"#).await;
    let all = datacenter.token_with_rules("all", r#"service_prefix "" { policy = "read" intentions = "write" }"#).await;
    let listed = datacenter.get("/v1/connect/intentions").token(&db).expect(200).await;
    assert_eq!(pairs(&listed.json()), ["web => db", "web => *"]);
    assert_eq!(listed.header("x-consul-results-filtered-by-acls"), "true");
    let entries = datacenter.get(CONFIG).token(&db).expect(200).await;
    assert_eq!(entries.json().as_array().unwrap().len(), 2, "{}", entries.text);
    let allow = json!({ "Action": "deny" });
    let lacks = |answered: Answered, right: &str, on: &str| {
        assert!(answered.text.ends_with(&format!("lacks permission '{right}' on \"{on}\"")), "{}", answered.text);
    };
    let put = |token: &str, destination: &str| datacenter.put(&exact("api", destination)).token(token).json(&allow);
    lacks(put(&db, "db").expect(403).await, "intention:write", "db");
    put(&writer, "db").ok().await;
    lacks(put(&writer, "cache").expect(403).await, "intention:write", "cache");
    lacks(put(&writer, "*").expect(403).await, "intention:write", "*");
    put(&all, "*").ok().await;
    let get = |path: String| datacenter.get(&path).token(&db);
    get(exact("web", "db")).ok().await;
    lacks(get(exact("web", "cache")).expect(403).await, "intention:read", "cache");
    lacks(get(exact("no", "cache")).expect(403).await, "intention:read", "cache");
    let other = get("/v1/connect/intentions/match?by=destination&name=db&name=cache".into()).expect(403).await;
    lacks(other, "intention:read", "cache");
    get("/v1/connect/intentions/check?source=x&destination=db".into()).ok().await;
    let check = get("/v1/connect/intentions/check?source=x&destination=cache".into()).expect(403).await;
    lacks(check, "service:read", "cache");
    let explain = get("/v1/carrack/intention/explain?source=x&destination=cache".into()).expect(403).await;
    lacks(explain, "intention:read", "cache");
    lacks(get(format!("{CONFIG}/cache")).expect(403).await, "intention:read", "cache");
    lacks(datacenter.delete(&format!("{CONFIG}/db")).token(&db).expect(403).await, "intention:write", "db");
    let entry =
        json!({ "Kind": "service-intentions", "Name": "cache", "Sources": [{ "Name": "x", "Action": "allow" }] });
    lacks(datacenter.put("/v1/config").token(&writer).json(&entry).expect(403).await, "intention:write", "cache");
    let draft = json!({ "SourceName": "x", "DestinationName": "cache", "Action": "allow" });
    let posted = datacenter.ask("POST", "/v1/connect/intentions").token(&writer).json(&draft).expect(403).await;
    lacks(posted, "intention:write", "cache");
    let made = datacenter.ask("POST", "/v1/connect/intentions").managed().json(&draft).ok().await;
    let path = format!("/v1/connect/intentions/{}", made["ID"].as_str().unwrap());
    lacks(datacenter.delete(&path).token(&writer).expect(403).await, "intention:write", "cache");
    lacks(datacenter.put(&path).token(&writer).json(&draft).expect(403).await, "intention:write", "cache");
    lacks(datacenter.get(&path).token(&writer).expect(403).await, "intention:read", "cache");
}

/// Consul wakes every watcher of intentions at each write of one.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_wakes_the_watchers_of_its_destination_and_nobody_else() {
    const EACH: usize = 50;
    let datacenter = Datacenter::begin().await;
    for destination in ["db", "cache"] {
        datacenter.intend("web", destination, "allow").await;
    }
    let watching = |datacenter: &Datacenter| datacenter.server.context().replica.status().watchers;
    let path = |destination: &str| format!("/v1/connect/intentions/match?by=destination&name={destination}");
    let blocked = async |destination: &str| {
        let index = datacenter.get(&path(destination)).managed().expect(200).await.index();
        let path = format!("{}&index={index}&wait=50s", path(destination));
        (0..EACH).map(|_| datacenter.get(&path).managed().expect(200)).collect::<Vec<_>>()
    };
    let (db, cache) = (join_all(blocked("db").await), join_all(blocked("cache").await));
    // Each waits for its destination, for `*` and for the end of its token.
    let of_db = async {
        datacenter.until(|datacenter| watching(datacenter) >= 6 * EACH).await;
        datacenter.intend("api", "db", "allow").await;
    };
    let story = async {
        let (db, ()) = tokio::join!(db, of_db);
        assert!(db.iter().all(|answered| pairs(&answered.json()["db"]).len() == 2));
        assert!(watching(&datacenter) >= 3 * EACH, "those of the other destination still wait");
        datacenter.intend("*", "*", "deny").await;
    };
    let both = async { tokio::join!(cache, story) };
    let (cache, ()) = tokio::time::timeout(Duration::from_secs(45), both).await.unwrap();
    let woken_by_other = cache.iter().filter(|answered| pairs(&answered.json()["cache"]) != ["web => cache", "* => *"]);
    assert_eq!(woken_by_other.count(), 0, "of {EACH}; one for every destination wakes all");
}
