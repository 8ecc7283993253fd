"""What py-consul, as its authors released it, gets from a carrack server that nobody has bootstrapped yet."""

import sys

HOST, PORT, RAFT = sys.argv[1], int(sys.argv[2]), sys.argv[3]
SECRET = "c8d5c4b2-6a0e-4f3e-9a51-7c0d1b2e3f40"


def before_bootstrap(stranger):
    assert stranger.status.leader() == RAFT
    assert stranger.status.peers() == [RAFT]
    roots = stranger.connect.ca.roots()
    [root] = roots["Roots"]
    assert root["Active"] and root["ID"] == roots["ActiveRootID"]
    assert root["RootCert"].endswith("-----END CERTIFICATE-----\n")
    assert stranger.agent.connect.ca.roots() == roots
    refused(ACLPermissionDenied, "anonymous token lacks permission", stranger.acl.token.list)
    refused(ACLPermissionDenied, "anonymous token", stranger.agent.connect.ca.leaf, "web")
    return roots


def bootstrap(stranger):
    made = stranger.acl.bootstrap(SECRET)
    assert made["SecretID"] == SECRET and made["Policies"][0]["Name"] == "global-management", made
    refused(ACLPermissionDenied, "ACL bootstrap no longer allowed", stranger.acl.bootstrap)


def tokens(client):
    services = [{"ServiceName": "web"}]
    made = client.acl.token.create(description="of web", service_identities=services, expiration_ttl="1h")
    accessor, secret = made["AccessorID"], made["SecretID"]
    read = client.acl.token.read(accessor)
    assert read["Description"] == "of web" and not read.get("SecretID"), read
    assert read["ServiceIdentities"][0]["ServiceName"] == "web", read
    own = client.acl.token.read_self(token=secret)
    assert own["AccessorID"] == accessor, own
    client.acl.token.update(accessor, description="changed", service_identities=services)
    assert client.acl.token.read(accessor)["Description"] == "changed"
    listed = [token["AccessorID"] for token in client.acl.token.list(servicename="web")]
    assert listed == [accessor], listed
    cloned = client.acl.token.clone(accessor, description="cloned")
    assert cloned["SecretID"] != secret and cloned["ServiceIdentities"] == read["ServiceIdentities"], cloned
    leaf = client.agent.connect.ca.leaf("web", token=secret)
    assert leaf["Service"] == "web" and leaf["ServiceURI"].endswith("/ns/default/dc/dc1/svc/web"), leaf
    assert client.agent.connect.ca.leaf("web", token=secret)["SerialNumber"] == leaf["SerialNumber"]
    assert client.agent.connect.ca.leaf("web", token=cloned["SecretID"])["SerialNumber"] != leaf["SerialNumber"]
    refused(ACLPermissionDenied, "'service:write' on \"db\"", client.agent.connect.ca.leaf, "db", token=secret)
    for token in (accessor, cloned["AccessorID"]):
        assert client.acl.token.delete(token) is True
    refused(ACLPermissionDenied, "ACL not found", client.agent.connect.ca.leaf, "web", token=secret)
    refused(BadRequest, "SecretID is not a UUID", client.acl.token.create, secret_id="<hidden>")


def policies(client):
    made = client.acl.policy.create("readers", rules={"operator": "read"}, description="as JSON")
    assert client.acl.policy.read(made["ID"])["Name"] == "readers"
    assert "readers" in [policy["Name"] for policy in client.acl.policy.list()]
    token = client.acl.token.create(policies_name=["readers"])
    reader = consul.Consul(host=HOST, port=PORT, token=token["SecretID"])
    refused(ACLPermissionDenied, "lacks permission 'operator:write'", reader.connect.ca.configuration)
    client.acl.policy.update(made["ID"], "readers", rules={"operator": "write"})
    assert reader.connect.ca.configuration()["Provider"] == "consul"
    assert client.acl.policy.delete(made["ID"]) is True
    refused(ACLPermissionDenied, "lacks permission 'operator:write'", reader.connect.ca.configuration)
    refused(BadRequest, "Invalid Policy", client.acl.policy.create, "broken", rules={"nonsense": "read"})


def configuration(client):
    read = client.connect.ca.configuration()
    assert read["Config"]["LeafCertTTL"] == "72h" and "PrivateKey" not in read["Config"], read
    wanted = dict(read["Config"], LeafCertTTL="24h")
    assert client.connect.ca.update_configuration("consul", wanted) is True
    assert client.connect.ca.configuration()["Config"] == wanted
    change = client.connect.ca.update_configuration
    refused(BadRequest, "greater or equal than 1h0m0s", change, "consul", dict(wanted, LeafCertTTL="1m"))
    assert client.connect.ca.configuration()["Config"] == wanted
    before = client.connect.ca.roots()["ActiveRootID"]
    assert change("consul", dict(wanted, PrivateKeyType="ec", PrivateKeyBits=384)) is True
    after = client.connect.ca.roots()
    [root] = [root for root in after["Roots"] if root["Active"]]
    assert (root["ID"] != before, root["PrivateKeyBits"]) == (True, 384), "it was waited for"
    assert client.connect.ca.configuration()["Config"]["PrivateKeyBits"] == 384
    refused(ConsulException, "501", client.connect.ca.update_configuration, "vault", {"Address": "http://a"})
    assert change("consul", dict(wanted, PrivateKeyType="ec", PrivateKeyBits=384, LeafCertTTL="72h")) is True


def intentions(client):
    own = client.connect.intentions
    assert own.list() == [] and own.check("web", "db") is False
    assert own.upsert("web", "db", action="allow", description="of py-consul") is True
    read = own.read("web", "db")
    assert (read["Action"], read["Precedence"], read["Description"]) == ("allow", 9, "of py-consul"), read
    assert own.upsert("*", "*", action="deny") is True
    assert [row["Precedence"] for row in own.match("destination", "db")["db"]] == [9, 5]
    assert [row["DestinationName"] for row in own.match("source", "web")["web"]] == ["db", "*"]
    assert own.check("web", "db") is True and own.check("api", "db") is False
    permissions = [{"Action": "allow", "HTTP": {"PathPrefix": "/v1", "Methods": ["GET"]}}]
    assert own.upsert("api", "db", permissions=permissions) is True
    assert own.read("api", "db")["Permissions"] == permissions
    assert own.check("api", "db") is False, "there is no request to look at"
    refused(BadRequest, "Action must be set to 'allow' or 'deny'", own.upsert, "web", "db", action="maybe")
    refused(BadRequest, "Meta must not be specified", own.upsert, "web", "db", action="deny", meta={"a": "b"})
    refused(BadRequest, "filter", own.list, filter_expr="Action == allow")
    assert own.delete("web", "db") is True and own.check("web", "db") is False
    assert own.read("web", "db") is None

    kind = "service-intentions"
    sources = [{"Name": "web", "Action": "allow"}, {"Name": "*", "Action": "deny"}]
    assert client.config.set(kind, "db", {"Sources": sources}) is True
    entry = client.config.get(kind, "db")
    assert [source["Name"] for source in entry["Sources"]] == ["web", "*"], entry
    assert client.config.set(kind, "db", {"Sources": sources[:1]}, cas=1) is False
    assert client.config.set(kind, "db", {"Sources": sources[:1]}, cas=entry["ModifyIndex"]) is True
    assert sorted(entry["Name"] for entry in client.config.list(kind)) == ["*", "db"]
    for name in ("db", "*"):
        client.config.delete(kind, name)
    assert own.list() == []


def blocking(client):
    index, roots = indexed(client, "/v1/connect/ca/roots")
    begin = time.monotonic()
    again, same = indexed(client, "/v1/connect/ca/roots", index=index, wait="1s")
    assert (again, same) == (index, roots) and time.monotonic() - begin >= 1, (index, again)
    index, before = indexed(client, "/v1/acl/tokens")
    answers = []
    query = lambda: answers.append(indexed(client, "/v1/acl/tokens", index=index, wait="60s"))
    waiting = threading.Thread(target=query)
    waiting.start()
    made = consul.Consul(host=HOST, port=PORT, token=SECRET).acl.token.create(description="wakes it")
    waiting.join()
    [(later, after)] = answers
    assert later > index and len(after) == len(before) + 1, (index, later)
    assert made["AccessorID"] in [token["AccessorID"] for token in after]
    for mode in ("stale", "consistent"):
        assert indexed(client, "/v1/connect/ca/roots", **{mode: ""})[1] == roots


def authorize(client):
    trust_domain = client.agent.connect.ca.roots()["TrustDomain"]
    web = f"spiffe://{trust_domain}/ns/default/dc/dc1/svc/web"
    ask = client.agent.connect.authorize
    refused(ACLPermissionDenied, "anonymous token", stranger.agent.connect.authorize, "db", web, "33:9b")
    assert client.connect.intentions.upsert("web", "db", action="allow") is True
    allowed = ask("db", web, "33:9b")
    assert allowed["Authorized"] is True and "Matched L4 intention" in allowed["Reason"], allowed
    assert client.connect.intentions.upsert("web", "db", action="deny") is True
    assert ask("db", web, "33:9b")["Authorized"] is False
    foreign = ask("db", web.replace(trust_domain, "other.consul"), "33:9b")
    assert foreign["Authorized"] is False and "trust domain" in foreign["Reason"], foreign
    refused(BadRequest, "ClientCertURI", ask, "db", "spiffe://a/b", "33:9b")
    assert client.connect.intentions.delete("web", "db") is True


def operator(client):
    # py-consul sends no token here; Consul itself refuses that too where tokens are needed.
    refused(ACLPermissionDenied, "lacks permission 'operator:read'", client.operator.raft_config)
    refused(ACLPermissionDenied, "anonymous token", client.agent.self)
    client.http.session.headers["X-Consul-Token"] = SECRET
    [server] = client.operator.raft_config()["Servers"]
    assert server["Leader"] and server["Voter"] and server["Address"] == RAFT, server
    assert client.agent.self()["Config"]["Datacenter"] == "dc1"


def not_here(client):
    refused(ConsulException, "", client.health.service, "web")


stranger = consul.Consul(host=HOST, port=PORT)
before_bootstrap(stranger)
bootstrap(stranger)
client = consul.Consul(host=HOST, port=PORT, token=SECRET)
for story in (tokens, policies, configuration, intentions, authorize, blocking, not_here, operator):
    story(client)
print(SECRET, end="")
