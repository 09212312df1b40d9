/// The addresses of pages, for links in webhooks, portal links and answers.
package struct PageAddresses: Sendable, Equatable {
  /// It has no slash at its end.
  private let base: String

  /// - Parameters:
  ///   - publicURL: `METER_PUBLIC_URL`, without a slash at its end, with the path prefix or without
  ///     it.
  ///   - basePath: `METER_BASE_PATH`; empty, or with a slash in front and none at its end.
  package init(publicURL: String, basePath: String) {
    base = publicURL.hasSuffix(basePath) ? publicURL : publicURL + basePath
  }

  /// - Parameter path: the path, which begins with a slash.
  package func page(_ path: String) -> String { base + path }

  /// The page of an alert, in the vendor's pages or in the customer portal.
  package func alert(_ id: Int64, isForCustomer: Bool) -> String {
    page(isForCustomer ? "/portal/alerts/\(id)" : "/alerts/\(id)")
  }
}
