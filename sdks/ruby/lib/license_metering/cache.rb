# frozen_string_literal: true

require "fileutils"
require "json"
require "monitor"
require "openssl"
require "securerandom"

module LicenseMetering
  # Verdicts in memory and on disk, at most 1,000; the oldest leave first. What lies on disk is the signed verdict itself,
  # and is verified again when it is read.
  class Cache
    # A verdict, its signature, and when it came by the local clock, in milliseconds.
    Entry = Struct.new(:verdict, :signature, :received)

    MAXIMUM_ENTRIES = 1000
    MAXIMUM_FILE_BYTES = 1 << 21
    LATEST = "latest.json"
    KEYS = "keys.json"
    FILE = /\A[0-9a-f]{32}-[0-9a-f]{32}\.json\z/
    # These are about the license and not about the domain that was asked for.
    LICENSE_WIDE = %w[invalid_signature not_found canceled suspended expired].freeze

    # +verify+ gives a verdict or nil for a signature, a license key and a domain; +signed_time+ milliseconds or 0.
    def initialize(folder, verify, signed_time)
      @folder = folder&.to_s
      @verify = verify
      @signed_time = signed_time
      @entries = {}
      @lock = Monitor.new
      @highest = 0
      @latest_read = false
    end

    # The latest time that the service has signed, in milliseconds; 0 where none is known.
    def highest
      @lock.synchronize do
        unless @latest_read
          @latest_read = true
          saved = read(LATEST)
          @highest = [@highest, @signed_time.call(saved["signature"])].max if saved
        end
        @highest
      end
    end

    # What memory holds.
    def get(license_key, domain)
      @lock.synchronize do
        entry = @entries.delete([license_key, domain.text])
        @entries[[license_key, domain.text]] = entry if entry
        entry
      end
    end

    # The newer of what memory and disk hold; another process may have written it.
    def load(license_key, domain)
      entry = get(license_key, domain)
      saved = read(file(license_key, domain))
      return entry if saved.nil? || (entry && saved["signature"] == entry.signature)

      verdict = @verify.call(saved["signature"], license_key, domain)
      return entry if verdict.nil? || (entry && entry.verdict.timestamp >= verdict.timestamp)

      loaded = Entry.new(verdict, saved["signature"], verdict.timestamp)
      @lock.synchronize { keep(license_key, domain, loaded) }
      loaded
    end

    # Keeps a verdict. A "no" replaces what was kept for the domain, and for the whole license where it is about that.
    def put(license_key, domain, entry)
      @lock.synchronize do
        verdict = entry.verdict
        @entries.delete_if { |(key, _), _| key == license_key } if !verdict.valid && LICENSE_WIDE.include?(verdict.code)
        latest = verdict.timestamp >= highest
        keep(license_key, domain, entry)
        save(license_key, domain, entry, latest) if @folder
      end
    rescue SystemCallError, IOError
      nil # A full or forbidden disk takes the cache's survival of a restart away, and nothing else.
    end

    # Keeps a fetched key set, without which saved verdicts cannot be verified.
    def save_keys(source)
      write(KEYS, { keys: source }) if @folder
    rescue SystemCallError, IOError, JSON::GeneratorError
      nil # As above.
    end

    # The key set that was kept.
    def saved_keys
      keys = read(KEYS)&.fetch("keys", nil)
      keys if keys.is_a?(String)
    end

    private

    def keep(license_key, domain, entry)
      key = [license_key, domain.text]
      @entries.delete(key)
      @entries[key] = entry
      @highest = [@highest, entry.verdict.timestamp].max
      @entries.shift if @entries.length > MAXIMUM_ENTRIES
    end

    def save(license_key, domain, entry, latest)
      name = file(license_key, domain)
      saved = { signature: entry.signature }
      if entry.verdict.valid
        write(name, saved)
        trim(name)
      else
        forget(license_key, name) if LICENSE_WIDE.include?(entry.verdict.code)
        # Names that were never valid leave no file: whoever asks for them must not fill the disk.
        write(name, saved) if File.exist?(File.join(@folder, name))
      end
      write(LATEST, saved) if latest
    end

    def forget(license_key, kept)
      others = files.select { |name| name != kept && name.start_with?("#{hash_of(license_key)}-") }
      FileUtils.rm_f(others.map { |name| File.join(@folder, name) })
    end

    def files
      Dir.exist?(@folder) ? Dir.children(@folder).grep(FILE) : []
    end

    def trim(kept)
      names = files
      return if names.length <= MAXIMUM_ENTRIES

      aged = names.sort_by { |name| File.mtime(File.join(@folder, name)) }
      oldest = aged.first(names.length - MAXIMUM_ENTRIES) - [kept]
      FileUtils.rm_f(oldest.map { |name| File.join(@folder, name) })
    end

    # A file of the owner's alone, whole or not at all.
    def write(name, value)
      FileUtils.mkdir_p(@folder, mode: 0o700)
      temporary = File.join(@folder, ".#{name}.#{SecureRandom.hex(8)}")
      begin
        File.open(temporary, File::WRONLY | File::CREAT | File::EXCL, 0o600) { |io| io.write(JSON.generate(value)) }
        File.rename(temporary, File.join(@folder, name))
      rescue StandardError
        FileUtils.rm_f(temporary)
        raise
      end
    end

    def read(name)
      return nil unless @folder

      value = JSON.parse(File.read(File.join(@folder, name), MAXIMUM_FILE_BYTES, encoding: "UTF-8"))
      value if value.is_a?(Hash)
    rescue SystemCallError, IOError, JSON::ParserError, ArgumentError, TypeError
      nil # What cannot be read is not known.
    end

    def hash_of(text)
      OpenSSL::Digest::SHA256.hexdigest(text)[0, 32]
    end

    def file(license_key, domain)
      "#{hash_of(license_key)}-#{hash_of(domain.text)}.json"
    end
  end
end
