"""What py-consul, as its authors released it, gets from a carrack agent."""

import sys

HOST, AGENT_PORT, SERVER_PORT, SECRET = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]


def eventually(holds):
    """Agents hear of a write a moment after its writer."""
    until = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < until, holds
        time.sleep(0.01)


agent = consul.Consul(host=HOST, port=AGENT_PORT, token=SECRET)
server = consul.Consul(host=HOST, port=SERVER_PORT, token=SECRET)
stranger = consul.Consul(host=HOST, port=AGENT_PORT)

roots = agent.agent.connect.ca.roots()
assert roots["ActiveRootID"] == server.agent.connect.ca.roots()["ActiveRootID"]
assert stranger.agent.connect.ca.roots() == roots == agent.connect.ca.roots()
index, _ = indexed(agent, "/v1/agent/connect/ca/roots")
begin = time.monotonic()
assert indexed(agent, "/v1/agent/connect/ca/roots", index=index, wait="1s") == (index, roots)
assert time.monotonic() - begin >= 1

made = server.acl.token.create(service_identities=[{"ServiceName": "web"}])
secret = made["SecretID"]
leaf = agent.agent.connect.ca.leaf("web", token=secret)
assert leaf["Service"] == "web" and leaf["ServiceURI"].endswith("/ns/default/dc/dc1/svc/web"), leaf
assert "PRIVATE KEY-----" in leaf["PrivateKeyPEM"], "a workload gets its key"
assert agent.agent.connect.ca.leaf("web", token=secret) == leaf, "from memory"
refused(ACLPermissionDenied, "anonymous token", stranger.agent.connect.ca.leaf, "web")
refused(ACLPermissionDenied, "'service:write' on \"db\"", agent.agent.connect.ca.leaf, "db", token=secret)

ask = agent.agent.connect.authorize
uri, serial = leaf["ServiceURI"], leaf["SerialNumber"]
assert ask("db", uri, serial)["Authorized"] is False
assert server.connect.intentions.upsert("web", "db", action="allow") is True
eventually(lambda: ask("db", uri, serial)["Authorized"])
assert "Matched L4 intention" in ask("db", uri, serial)["Reason"]
assert server.connect.intentions.upsert("web", "db", action="deny") is True
eventually(lambda: not ask("db", uri, serial)["Authorized"])
refused(BadRequest, "ClientCertURI", ask, "db", "spiffe://a/b", serial)
refused(ACLPermissionDenied, "anonymous token", stranger.agent.connect.authorize, "db", uri, serial)

# Who waits for a leaf, or begins to, hears that its token is gone.
ended = []
leaf_index, _ = indexed(consul.Consul(host=HOST, port=AGENT_PORT, token=secret), "/v1/agent/connect/ca/leaf/web")


def wait_for_leaf():
    waiting = consul.Consul(host=HOST, port=AGENT_PORT, token=secret)
    try:
        ended.append(indexed(waiting, "/v1/agent/connect/ca/leaf/web", index=leaf_index, wait="60s"))
    except ACLPermissionDenied as error:
        ended.append(str(error))


waiting = threading.Thread(target=wait_for_leaf)
waiting.start()
assert server.acl.token.delete(made["AccessorID"]) is True
waiting.join(timeout=10)
assert ended and "ACL not found" in ended[0], ended
refused(ACLPermissionDenied, "ACL not found", agent.agent.connect.ca.leaf, "web", token=secret)

# py-consul sends no token here by itself.
agent.http.session.headers["X-Consul-Token"] = SECRET
about = agent.agent.self()
assert about["Config"]["Datacenter"] == "dc1" and about["Config"]["NodeName"] == "n1", about
# What a server alone answers is not found here: py-consul has nothing for that.
assert agent.acl.token.list() is None
print("good", end="")
