import BillingPages
import HTTPTypes
import JSONText
import Metering

/// `/audit` and `/tokens`.
enum AdminPages {
  static func routes(_ pages: PageHandling) -> [Route] {
    let page = PageHandling.FormPage("/tokens") { try await tokens($0, made: nil) }
    return [
      pages.get("/audit") { visit in
        let data = try await visit.client.get(
          "/v1/audit", visit.list(visit.context.filters(AuditPage.filters)))
        return visit.html(
          AuditPage.make(
            data["data"].list.map(entry), next: data["next"].text, in: visit.context))
      },
      pages.get(page.path, page.show),
      pages.post("/tokens", on: page) { try await makeToken($0) },
      pages.post("/tokens/{id}/revoke") { visit in
        _ = try await visit.client.send(.delete, "/v1/tokens/\(visit.segment())")
        return visit.redirect(to: "/tokens", done: "revoked")
      },
    ]
  }

  private static func entry(_ entry: PageData) -> AuditPage.Line {
    let actor = "\(entry["actor_kind"].text ?? "") \(entry["actor_id"].text ?? "")"
    let resource = "\(entry["resource_kind"].text ?? "") \(entry["resource_id"].text ?? "")"
    return AuditPage.Line(
      time: entry["at"].time ?? 0, actor: actor, action: entry["action"].text ?? "",
      resource: resource, before: entry["before"].isAbsent ? nil : entry["before"].json,
      after: entry["after"].isAbsent ? nil : entry["after"].json,
      requestID: entry["request_id"].text, address: entry["address"].text,
      userAgent: entry["user_agent"].text, status: entry["status"].integer)
  }

  private static func tokens(_ visit: PageVisit, made: String?) async throws -> APIAnswer {
    let data = try await visit.client.get(
      "/v1/tokens", visit.list(visit.context.filters(TokensPage.filters)))
    let lines = data["data"].list.map { token in
      TokensPage.Line(
        id: token["token_id"].text ?? "", name: token["name"].text ?? "",
        scopes: token["scopes"].texts, customer: token["customer_id"].text,
        createdAt: token["created_at"].time ?? 0, expiresAt: token["expires_at"].time,
        revokedAt: token["revoked_at"].time)
    }
    return visit.html(
      TokensPage.make(
        lines, next: data["next"].text, token: made, notice: visit.notice, in: visit.context))
  }

  private static func makeToken(_ visit: PageVisit) async throws -> APIAnswer {
    let form = visit.form
    let made = try await visit.client.send(.post, "/v1/tokens", key: form.key) { json in
      json.name("name")
      json.text(form["name"] ?? "")
      json.name("scopes")
      json.beginArray()
      for scope in form.all("scope") { json.text(scope) }
      json.endArray()
      if let customer = form["customer_id"] {
        json.name("customer_id")
        json.text(customer)
      }
      if let expires = form["expires"] {
        json.name("expires_in")
        json.text(expires)
      }
    }
    return try await tokens(visit, made: made["token"].text)
  }
}
