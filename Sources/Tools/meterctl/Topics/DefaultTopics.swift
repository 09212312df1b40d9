import ArgumentParser
import Foundation

/// The files of `topics/` at the time when this program was built.
enum DefaultTopics {
  struct File: Sendable {
    /// The path below the folder of topics.
    let path: String
    let text: String

    fileprivate init(_ path: String, _ bytes: [UInt8]) {
      self.path = path
      text = String(decoding: bytes, as: UTF8.self)
    }
  }

  static var topics: [File] {
    [
      File("license.dead-letter.v1.yaml", PackageResources.license_dead_letter_v1_yaml),
      File("license.usage.v1.yaml", PackageResources.license_usage_v1_yaml),
      File("license.validations.v1.yaml", PackageResources.license_validations_v1_yaml),
    ]
  }

  static var schemas: [File] {
    [
      File("schemas/producer-report.json", PackageResources.producer_report_json),
      File("schemas/usage-event.json", PackageResources.usage_event_json),
      File("schemas/validation-event.json", PackageResources.validation_event_json),
    ]
  }
}

extension Topics {
  struct Export: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Write the built-in topic files and schemas to a folder, to change them there.",
      discussion: """
        Existing files are not overwritten; the exit status is 3 then.

        Example: meterctl topics export ./topics && meterctl topics apply --folder ./topics
        """)

    @Argument(help: "The folder. It is created if it does not exist.")
    var folder: String

    func run() throws {
      let files = FileManager.default
      for file in DefaultTopics.topics + DefaultTopics.schemas {
        let path = (folder as NSString).appendingPathComponent(file.path)
        guard !files.fileExists(atPath: path) else {
          throw Failure("\(path) already exists and was not changed")
        }
        do {
          try files.createDirectory(
            atPath: (path as NSString).deletingLastPathComponent, withIntermediateDirectories: true)
          try Data(file.text.utf8).write(
            to: URL(fileURLWithPath: path), options: .withoutOverwriting)
        } catch {
          throw Failure("\(path) cannot be written: \(error.localizedDescription)")
        }
        print(path)
      }
    }
  }
}
