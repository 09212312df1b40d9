import HTTPTypes
import Licensing

/// `GET /openapi.yaml` and `GET /.well-known/jwks.json`, which need no token.
enum Documents {
  static func routes(_ context: APIContext) -> [Route] {
    let keys = context.settings.keys?.publicJSON ?? Array(#"{"keys":[]}"#.utf8)
    return [
      Route(.get, "/openapi.yaml", .open) { request in
        var fields = try request.query
        try fields.finish()
        return APIAnswer(
          type: "application/yaml; charset=utf-8", headers: [.cacheControl: "max-age=300"],
          bytes: PackageResources.openapi_yaml)
      },
      Route(.get, "/.well-known/jwks.json", .open) { request in
        var fields = try request.query
        try fields.finish()
        return APIAnswer(
          type: "application/jwk-set+json", headers: [.cacheControl: "max-age=300"], bytes: keys)
      },
    ]
  }
}
