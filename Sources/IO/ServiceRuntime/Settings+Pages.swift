package import Metering

/// The addresses of the pages. `metering-api` serves them, and other programs link to them.
extension Settings {
  /// `METER_PUBLIC_URL` without a slash at its end; nil if it is not set.
  package func publicURL() throws(ConfigurationError) -> String? {
    guard var url = try self[DeclaredSettings.publicURL] else { return nil }
    while url.hasSuffix("/") { url.removeLast() }
    let isPlain = url.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\"") }
    guard url.hasPrefix("https://") || url.hasPrefix("http://"), isPlain,
      !url.contains("?"), !url.contains("#"), !url.contains("@")
    else {
      throw ConfigurationError("METER_PUBLIC_URL must be an address such as https://meter.example")
    }
    return url
  }

  /// `METER_BASE_PATH`, either empty or with a slash at its beginning and none at its end.
  package func basePath() throws(ConfigurationError) -> String {
    var path = try self[DeclaredSettings.basePath]
    while path.hasSuffix("/") { path.removeLast() }
    let isPlain = path.utf8.allSatisfy { byte in
      (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
        || "/-_.~".utf8.contains(byte)
    }
    guard path.isEmpty || (path.hasPrefix("/") && isPlain && !path.contains("//")) else {
      throw ConfigurationError("METER_BASE_PATH must be a path such as /billing")
    }
    return path
  }

  /// Nil if `METER_PUBLIC_URL` is not set.
  package func pageAddresses() throws(ConfigurationError) -> PageAddresses? {
    let base = try basePath()
    return try publicURL().map { PageAddresses(publicURL: $0, basePath: base) }
  }
}
