/// The body of a webhook; the same bytes on every try, since they are signed.
package enum WebhookBody {
  /// `{"id":…,"timestamp":…,"event":…,"type":…,"data":{…}}`
  ///
  /// - Parameters:
  ///   - timestamp: RFC 3339, of the alert.
  ///   - data: a JSON object as PostgreSQL's `jsonb` prints it; blanks between its tokens are dropped.
  /// - Complexity: O(n).
  package static func make(id: String, timestamp: String, type: String, data: String) -> [UInt8] {
    var body: [UInt8] = []
    body.reserveCapacity(data.utf8.count + 200)
    put("{\"id\":", &body)
    quote(id, &body)
    put(",\"timestamp\":", &body)
    quote(timestamp, &body)
    put(",\"event\":", &body)
    quote(type, &body)
    put(",\"type\":", &body)
    quote(type, &body)
    put(",\"data\":", &body)
    compact(data, &body)
    put("}", &body)
    return body
  }

  private static func put(_ text: String, _ body: inout [UInt8]) {
    body.append(contentsOf: text.utf8)
  }

  private static func compact(_ json: String, _ body: inout [UInt8]) {
    var inString = false
    var escaped = false
    for byte in json.utf8 {
      if inString {
        if escaped {
          escaped = false
        } else if byte == UInt8(ascii: "\\") {
          escaped = true
        } else if byte == UInt8(ascii: "\"") {
          inString = false
        }
      } else if byte == UInt8(ascii: "\"") {
        inString = true
      } else if byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 {
        continue
      }
      body.append(byte)
    }
  }

  private static func quote(_ text: String, _ body: inout [UInt8]) {
    let digits = Array("0123456789abcdef".utf8)
    body.append(UInt8(ascii: "\""))
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "\""), UInt8(ascii: "\\"): body.append(contentsOf: [0x5C, byte])
      case 0..<0x20:
        put("\\u00", &body)
        body.append(contentsOf: [digits[Int(byte >> 4)], digits[Int(byte & 15)]])
      default: body.append(byte)
      }
    }
    body.append(UInt8(ascii: "\""))
  }
}
