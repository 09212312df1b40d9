import HTTPTypes

/// Finds the route of a path, segment by segment. Literals win over parameters.
struct Router: Sendable {
  private enum Segment: Sendable, Equatable {
    case literal([UInt8])
    case parameter(String)
  }

  private struct Entry: Sendable {
    let segments: [Segment]
    let route: Route
  }

  enum Found: Sendable {
    case route(Route, parameters: [String: String])
    /// The path exists and takes these methods.
    case otherMethods([HTTPRequest.Method])
    case nothing
  }

  /// The routes by their number of segments.
  private var entries: [Int: [Entry]] = [:]

  init(_ routes: [Route]) {
    for route in routes {
      let segments = route.path.split(separator: "/").map { part -> Segment in
        part.hasPrefix("{")
          ? .parameter(String(part.dropFirst().dropLast())) : .literal(Array(part.utf8))
      }
      let isTaken = entries[segments.count]?.contains {
        $0.route.method == route.method && $0.segments == segments
      }
      precondition(isTaken != true, "the route \(route.method) \(route.path) exists twice")
      entries[segments.count, default: []].append(Entry(segments: segments, route: route))
    }
    // If two routes match, the one with the earlier literal wins.
    for count in entries.keys {
      entries[count]?.sort {
        Self.rank($0.segments).lexicographicallyPrecedes(Self.rank($1.segments))
      }
    }
  }

  private static func rank(_ segments: [Segment]) -> [Int] {
    segments.map { if case .literal = $0 { 0 } else { 1 } }
  }

  /// - Parameter path: percent-encoded and without the query.
  func find(_ method: HTTPRequest.Method, _ path: Substring) -> Found {
    guard let segments = Self.segments(path) else { return .nothing }
    let wanted = method == .head ? .get : method
    var others: [HTTPRequest.Method] = []
    for entry in entries[segments.count] ?? [] {
      guard let parameters = Self.match(entry.segments, segments) else { continue }
      if entry.route.method == wanted {
        return .route(entry.route, parameters: parameters)
      }
      if !others.contains(entry.route.method) { others.append(entry.route.method) }
    }
    return others.isEmpty ? .nothing : .otherMethods(others)
  }

  /// Splits a path. Returns nil if it has empty segments, broken escapes, `.` or `..`. The escaped
  /// `%2E` and `%2E%2E` are identifiers like others, because nothing here is a folder.
  private static func segments(_ path: Substring) -> [[UInt8]]? {
    guard path.first == "/" else { return nil }
    if path.utf8.count == 1 { return [] }
    var segments: [[UInt8]] = []
    for part in path.utf8.dropFirst().split(
      separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
    {
      guard !part.isEmpty, !part.elementsEqual(".".utf8), !part.elementsEqual("..".utf8),
        let bytes = PercentDecoding.bytes(part, plusIsBlank: false)
      else { return nil }
      segments.append(bytes)
    }
    return segments
  }

  private static func match(_ pattern: [Segment], _ segments: [[UInt8]]) -> [String: String]? {
    var parameters: [String: String] = [:]
    for (part, segment) in zip(pattern, segments) {
      switch part {
      case .literal(let bytes): if bytes != segment { return nil }
      case .parameter(let name):
        guard let text = String(validating: segment, as: UTF8.self), !segment.contains(0) else {
          return nil
        }
        parameters[name] = text
      }
    }
    return parameters
  }
}

/// Decodes escapes such as `%41` into bytes.
enum PercentDecoding {
  /// Returns nil if an escape is broken.
  static func bytes(_ text: some Sequence<UInt8>, plusIsBlank: Bool) -> [UInt8]? {
    var result: [UInt8] = []
    var iterator = text.makeIterator()
    while let byte = iterator.next() {
      switch byte {
      case UInt8(ascii: "%"):
        guard let high = iterator.next().flatMap(digit), let low = iterator.next().flatMap(digit)
        else { return nil }
        result.append(high << 4 | low)
      case UInt8(ascii: "+") where plusIsBlank: result.append(UInt8(ascii: " "))
      default: result.append(byte)
      }
    }
    return result
  }

  private static func digit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
    default: nil
    }
  }
}
