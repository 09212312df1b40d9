import Foundation

/// A condition was not met within the given time.
package struct NeverHappened: Error, CustomStringConvertible {
  package let description: String

  package init(description: String) { self.description = description }
}

/// Asks until the answer is not nil. The time only limits a broken test. A working one never
/// reaches it.
package func eventually<T>(
  _ what: @autoclosure () -> String, within seconds: Double = 30, _ probe: () throws -> T?
) throws -> T {
  let end = DispatchTime.now().uptimeNanoseconds + UInt64(seconds * 1e9)
  while true {
    if let answer = try probe() { return answer }
    guard DispatchTime.now().uptimeNanoseconds < end else {
      throw NeverHappened(description: "not within \(seconds) s: \(what())")
    }
    Thread.sleep(forTimeInterval: 0.03)
  }
}

/// Asks until the condition holds.
package func eventually(
  _ what: @autoclosure () -> String, within seconds: Double = 30,
  _ condition: () throws -> Bool
) throws {
  let _: Bool = try eventually(what(), within: seconds) { try condition() ? true : nil }
}
