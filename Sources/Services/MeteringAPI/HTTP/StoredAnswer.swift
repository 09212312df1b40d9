import HTTPTypes

/// An answer as bytes, with its status and all headers of its handler, such as `Location`, `ETag`
/// and `Cache-Control`.
///
/// The bytes are the line `answer/2 STATUS`, a line `name: value` for each header, an empty line,
/// and the body. Before version 2 they were the line `STATUS TYPE` and the body. Such answers are
/// read for the day for which they are kept.
enum StoredAnswer {
  private static let version = "answer/2"
  private static let lineEnd = UInt8(ascii: "\n")

  /// Returns nil for a streamed body, which cannot be repeated.
  static func bytes(_ answer: APIAnswer) -> [UInt8]? {
    guard case .bytes(let body) = answer.body else { return nil }
    var head = "\(version) \(answer.status.code)\n"
    for field in answer.headers { head += "\(field.name.rawName): \(field.value)\n" }
    return Array((head + "\n").utf8) + body
  }

  static func answer(_ bytes: [UInt8]) -> APIAnswer {
    var rest = bytes[...]
    func nextLine() -> String {
      let line = rest.prefix { $0 != lineEnd }
      rest = rest.dropFirst(line.count + 1)
      return String(decoding: line, as: UTF8.self)
    }
    var answer = APIAnswer.noContent
    let words = nextLine().split(separator: " ", maxSplits: 1).map(String.init)
    if words.first == version {
      answer.status = status(words.last)
      while let field = field(nextLine()) { answer.headers[field.name] = field.value }
    } else {
      answer.status = status(words.first)
      if words.count == 2 { answer.headers[.contentType] = words[1] }
    }
    answer.body = .bytes(Array(rest))
    return answer
  }

  /// Returns nil for the empty line behind the headers.
  private static func field(_ line: String) -> HTTPField? {
    guard let colon = line.firstIndex(of: ":"), let name = HTTPField.Name(String(line[..<colon]))
    else { return nil }
    return HTTPField(name: name, value: String(line[colon...].dropFirst(2)))
  }

  private static func status(_ text: String?) -> HTTPResponse.Status {
    HTTPResponse.Status(code: text.flatMap { Int($0) } ?? 200)
  }
}
