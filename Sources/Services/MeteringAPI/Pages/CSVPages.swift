import HTTPTypes
import Metering

/// `/csv/…` answers the reads of the API as CSV to somebody who is signed in to the pages.
///
/// A link in a page can send no token, and the operations below `/v1/` read no cookies. So each of
/// them that reads has a second address here. It finds the session as pages do, and calls the
/// operation with the scopes and the customer of the session's token.
enum CSVPages {
  /// - Parameter operations: the operations of the API.
  static func routes(_ pages: PageHandling, _ operations: [Route]) -> [Route] {
    operations.filter { $0.method == .get && $0.path.hasPrefix("/v1/") }.map { operation in
      pages.get("/csv" + operation.path.dropFirst("/v1".count)) { visit in
        var path = operation.path
        for name in visit.request.parameters.keys {
          path = path.replacing("{\(name)}", with: try visit.segment(name))
        }
        let filters = try visit.request.query.all.filter { $0.name != "format" }
        var answer = try await visit.client.answer(path, filters + [("format", "csv")])
        answer.headers[.cacheControl] = "no-store"
        return answer
      }
    }
  }
}
