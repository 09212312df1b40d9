import NIOHTTP1

/// Which endpoint answers a request, and what browsers with other origins may see.
extension ValidationAPI {
  func answer(_ request: APIRequest, _ gathered: Gathered) throws -> APIAnswer {
    switch request.path {
    case Self.validatePath:
      do {
        return Self.openToBrowsers(try answerWithCORS(request, gathered))
      } catch let problem as Problem {
        return Self.openToBrowsers(problem.answer)
      }
    case Self.eventsPath:
      try allow(request, [.POST])
      return try events(request, gathered)
    case "/.well-known/jwks.json":
      try allow(request, [.GET, .HEAD])
      return APIAnswer(status: .ok, type: "application/jwk-set+json", body: keySet)
    case "/openapi.yaml":
      try allow(request, [.GET, .HEAD])
      return APIAnswer(status: .ok, type: "application/yaml", body: PackageResources.openapi_yaml)
    default:
      throw Problem(
        status: .notFound, code: "not_found", detail: "This path does not exist. See /openapi.yaml."
      )
    }
  }

  private func allow(_ request: APIRequest, _ methods: [HTTPMethod]) throws {
    guard methods.contains(request.method) else {
      let names = methods.map(\.rawValue).joined(separator: ", ")
      throw Problem(
        status: .methodNotAllowed, code: "method_not_allowed", detail: "Use \(names).",
        headers: [("allow", names)])
    }
  }

  private func answerWithCORS(
    _ request: APIRequest, _ gathered: Gathered
  ) throws -> APIAnswer {
    if request.method == .POST { return try validate(request, gathered) }
    try allow(request, [.POST, .OPTIONS])
    return APIAnswer(
      status: .noContent,
      headers: [
        ("access-control-allow-methods", "POST, OPTIONS"),
        (
          "access-control-allow-headers",
          "Authorization, Content-Type, Idempotency-Key, Traceparent"
        ),
        ("access-control-max-age", "86400"), ("allow", "POST, OPTIONS"),
      ])
  }

  static func openToBrowsers(_ answer: APIAnswer) -> APIAnswer {
    var answer = answer
    answer.headers.append(("access-control-allow-origin", "*"))
    return answer
  }
}
