create sequence limit_version;
